from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_al.errors import ModelError, SetupError
from nnunet_al.nnunet.annotated_loss import counted_target
from nnunet_al.nnunet.checkpoints import LEARNING_LOSS_KEY, load_loss_module
from nnunet_al.nnunet.learning_loss_trainer import nnUNetTrainerALLearningLoss
from nnunet_al.nnunet.trainer import nnUNetTrainerAL
from nnunet_al.scoring.learning_loss import LossModule, LossSampler

from .conftest import IGNORE
from .trainings import CPU, Killed, equal, final_weights, folder_of, killed_at, make_trainer, read, trained


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    torch.set_num_threads(1)


@pytest.fixture
def trainer_of(monkeypatch):
    """A function (dataset, trainer class, settings) -> trainer; of learning loss if no class is given."""
    return functools.partial(_trainer, monkeypatch)


def _trainer(monkeypatch, tiny, trainer_class=nnUNetTrainerALLearningLoss, **settings):
    return make_trainer(monkeypatch, tiny, trainer_class, **settings)


def named(base=nnUNetTrainerALLearningLoss, **attributes):
    """The trainer with other constants, under its own name, after which nnU-Net calls the folder."""
    return type(base.__name__, (base,), attributes)


def module_of(checkpoint) -> dict[str, torch.Tensor]:
    return read(checkpoint)[LEARNING_LOSS_KEY]["module"]


def copied(module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def final(trainer):
    return folder_of(trainer) / "checkpoint_final.pth"


def optimizer_states(state) -> list:
    """All momenta of an optimiser, each as nested lists."""
    return [
        {name: value.tolist() if torch.is_tensor(value) else value for name, value in one.items()}
        for one in state["state"].values()
    ]


@pytest.fixture
def batch_of():
    """A function trainer -> one training batch of four patches."""

    def make(trainer):
        torch.manual_seed(0)
        np.random.seed(0)
        _, loader = trainer.get_dataloaders()
        return next(loader)

    return make


# ---------------------------------------------------------------- what a patch's own loss is taken over


def test_targets_by_hand():
    labels = torch.tensor([[[0.0, 2.0, 3.0]]])
    target, counted = counted_target(labels, True, 3)
    assert target.dtype == torch.int64
    assert target.tolist() == [[0, 2, 3]]
    assert counted.tolist() == [[True, True, False]]
    assert counted_target(labels, True, None)[1].tolist() == [[True, True, True]]


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_targets_of_regions_by_hand(dtype):
    whole, core, ignored = [1, 1, 0], [0, 1, 0], [0, 0, 1]
    target, counted = counted_target(torch.tensor([[whole, core, ignored]]).to(dtype), False, 3)
    assert target.tolist() == [[whole, core]]
    assert counted.tolist() == [[True, True, False]]
    target, counted = counted_target(torch.tensor([[whole, core]]).to(dtype), False, None)
    assert target.tolist() == [[whole, core]]
    assert counted.all()


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_without_the_rankings_gradient_the_network_is_trained_as_by_the_parent(
    make_tiny_preprocessed, trainer_of, optimizer
):
    """nnU-Net's own step does the parent's training, so this compares our step with it, to the bit."""
    parent = final_weights(trained(trainer_of(make_tiny_preprocessed(), nnUNetTrainerAL, optimizer=optimizer)))
    detached = trained(trainer_of(make_tiny_preprocessed(), named(joint_share=0.0), optimizer=optimizer))
    joint = trained(trainer_of(make_tiny_preprocessed(), optimizer=optimizer))
    assert equal(final_weights(detached), parent)
    assert not equal(final_weights(joint), parent)


def test_the_ranking_stops_reaching_the_network_after_its_share_of_the_epochs(tiny_preprocessed, trainer_of, batch_of):
    """Of five epochs the first three are joint: 0.6 · 5."""
    trainer = trainer_of(tiny_preprocessed, loss_margin=1e6, epochs=5, batch_size=4, dropout_p=0.0)
    trainer.initialize()
    trainer.loss = lambda output, target: 0.0 * output[0].sum()
    batch = batch_of(trainer)
    steps = []
    trainer._optimizer_step = lambda total, *optimizers: (total.backward(), steps.append(len(optimizers)))
    reached = []
    for epoch in range(5):
        trainer.current_epoch = epoch
        trainer.train_step(batch)
        network = trainer.network.decoder.stages[0].parameters()
        reached.append(any((one.grad != 0).any() for one in network if one.grad is not None))
        assert all((one.grad != 0).any() for one in trainer.loss_module.head.parameters() if one.dim() == 2)
    assert reached == [True, True, True, False, False]
    assert steps == [2] * 5


def test_a_step_minimises_nnunets_loss_plus_the_weighted_ranking_loss(tiny_preprocessed, trainer_of, batch_of):
    trainer = trainer_of(tiny_preprocessed, named(ranking_weight=0.5), batch_size=4, dropout_p=0.0)
    trainer.initialize()
    batch = batch_of(trainer)
    totals = []
    trainer._optimizer_step = lambda total, *_: totals.append(total.item())
    out = trainer.train_step(batch)
    assert totals == [pytest.approx(out["loss"] + 0.5 * out["ranking_loss"])]
    with torch.no_grad():
        assert out["loss"] == pytest.approx(trainer.loss(trainer.network(batch["data"]), batch["target"]).item())
    assert out["ranking_loss"] == pytest.approx(1.0, abs=0.5), "a fresh module knows no order yet"


def test_a_batch_without_two_annotated_patches_leaves_the_module_alone(tiny_preprocessed, trainer_of, batch_of):
    trainer = trainer_of(tiny_preprocessed, batch_size=4)
    trainer.initialize()
    batch = batch_of(trainer)
    for target in batch["target"]:
        target[1:] = IGNORE
    network, module = copied(trainer.network), copied(trainer.loss_module)
    out = trainer.train_step(batch)
    assert math.isnan(out["ranking_loss"])
    assert math.isfinite(out["loss"])
    assert not equal(copied(trainer.network), network)
    assert equal(copied(trainer.loss_module), module)
    assert not trainer.module_optimizer.state


def test_patches_without_annotation_make_no_pair(tiny_preprocessed, trainer_of, batch_of):
    """With the second of four patches not annotated, the first and the third are the only pair."""
    trainer = trainer_of(tiny_preprocessed, batch_size=4, dropout_p=0.0)
    trainer.initialize()
    batch = batch_of(trainer)
    for target in batch["target"]:
        target[[1, 3]] = IGNORE
    pair = {"data": batch["data"][[0, 2]], "target": [target[[0, 2]].clone() for target in batch["target"]]}
    trainer._optimizer_step = lambda *_: None
    assert trainer.train_step(batch)["ranking_loss"] == pytest.approx(
        trainer.train_step(pair)["ranking_loss"], abs=1e-5
    )


def test_scaled_gradients_end_in_the_same_weights(make_tiny_preprocessed, trainer_of):
    """The path of CUDA, with a scaler on the CPU: a power of two as scale changes no digit."""

    class Scaled(nnUNetTrainerALLearningLoss):
        def initialize(self):
            super().initialize()
            self.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)

    Scaled.__name__ = nnUNetTrainerALLearningLoss.__name__
    plain = trained(trainer_of(make_tiny_preprocessed(), epochs=1))
    scaled = trained(trainer_of(make_tiny_preprocessed(), Scaled, epochs=1))
    assert read(final(scaled))["grad_scaler_state"]["_growth_tracker"] == 2
    for one, other in (
        (final_weights(plain), final_weights(scaled)),
        (module_of(final(plain)), module_of(final(scaled))),
    ):
        assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


def test_gradients_are_cut_to_nnunets_norm_of_12_for_network_and_module_each(tiny_preprocessed, trainer_of, batch_of):
    """The first step of SGD with Nesterov momentum m moves by lr · (1 + m) · gradient."""
    trainer = trainer_of(tiny_preprocessed, named(ranking_weight=1e6), batch_size=4)
    trainer.initialize()
    trainer.optimizer, trainer.module_optimizer = (
        torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.99, nesterov=True)
        for one in (trainer.network, trainer.loss_module)
    )
    before = [copied(one) for one in (trainer.network, trainer.loss_module)]
    trainer.train_step(batch_of(trainer))
    for old, one in zip(before, (trainer.network, trainer.loss_module), strict=True):
        moved = torch.cat([(value - old[name]).flatten() for name, value in one.named_parameters()])
        assert moved.norm().item() / (0.1 * 1.99) == pytest.approx(12, rel=1e-3)


def test_both_learning_rates_follow_one_schedule(tiny_preprocessed, trainer_of):
    for optimizer, first in (("sgd", 1e-2), ("adamw", 1e-3)):
        trainer = trainer_of(tiny_preprocessed, epochs=4, optimizer=optimizer)
        trainer.initialize()
        trainer.current_epoch = 2
        trainer.on_train_epoch_start()
        assert type(trainer.module_optimizer) is type(trainer.optimizer)
        for one in (trainer.optimizer, trainer.module_optimizer):
            assert one.param_groups[0]["lr"] == pytest.approx(first * 0.5**0.9)
        own = {id(p) for p in trainer.loss_module.parameters()}
        assert {id(p) for p in trainer.module_optimizer.param_groups[0]["params"]} == own
        assert not own & {id(p) for p in trainer.optimizer.param_groups[0]["params"]}


@pytest.mark.parametrize(
    "variant",
    [
        {"regions": True},
        {"configuration": "2d", "channels": 2, "regions": True},
        {"configuration": "2d"},
        {"ignore": False},
    ],
    ids=str,
)
def test_every_kind_of_dataset_trains(make_tiny_preprocessed, trainer_of, variant):
    trainer = trainer_of(make_tiny_preprocessed(**variant), epochs=1)
    trainer.initialize()
    before = copied(trainer.loss_module)
    trained(trainer)
    after = module_of(final(trainer))
    assert all(torch.isfinite(value).all() for value in [*after.values(), *final_weights(trainer).values()])
    assert not equal(before, after)
    (log,) = folder_of(trainer).glob("training_log*.txt")
    (line,) = (line for line in log.read_text().splitlines() if "ranking_loss" in line)
    assert 0 < float(line.split()[-1]) < 10


def test_several_gpus_are_refused(tiny_preprocessed, trainer_of):
    trainer = trainer_of(tiny_preprocessed)
    trainer.is_ddp = True
    with pytest.raises(SetupError, match="one GPU"):
        trainer.initialize()


def test_it_never_compiles(tiny_preprocessed, trainer_of, monkeypatch):
    monkeypatch.setenv("nnUNet_compile", "true")
    trainer = trainer_of(tiny_preprocessed)
    trainer.device = torch.device("cuda")
    assert nnUNetTrainer._do_i_compile(trainer)
    assert not trainer._do_i_compile()


# ---------------------------------------------------------------- resumable


@pytest.mark.parametrize(
    "moment,epoch", [("in the epoch", 1), ("after checkpoint_latest", 1), ("before checkpoint_final", 2)]
)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_killed_and_resumed_equals_uninterrupted_to_the_bit(
    make_tiny_preprocessed, trainer_of, moment, epoch, optimizer
):
    from nnunetv2.run.run_training import maybe_load_checkpoint

    whole = trained(trainer_of(make_tiny_preprocessed(), epochs=3, optimizer=optimizer))
    tiny = make_tiny_preprocessed()
    mortal = killed_at(moment, epoch, nnUNetTrainerALLearningLoss)
    with pytest.raises(Killed):
        trainer_of(tiny, mortal, epochs=3, optimizer=optimizer).run_training()
    resumed = trainer_of(tiny, epochs=3, optimizer=optimizer, continued=True)
    maybe_load_checkpoint(resumed, continue_training=True, validation_only=False)
    trained(resumed)
    for name in ("final", "best"):
        one, other = (read(folder_of(t) / f"checkpoint_{name}.pth") for t in (whole, resumed))
        assert equal(one["network_weights"], other["network_weights"])
        assert equal(one[LEARNING_LOSS_KEY]["module"], other[LEARNING_LOSS_KEY]["module"])
        momenta = [optimizer_states(content[LEARNING_LOSS_KEY]["optimizer"]) for content in (one, other)]
        assert momenta[0]
        assert momenta[0] == momenta[1]
        assert one["logging"]["train_losses"] == other["logging"]["train_losses"]


def test_a_checkpoint_of_another_trainer_is_not_resumed(make_tiny_preprocessed, trainer_of):
    other = trained(trainer_of(make_tiny_preprocessed(), nnUNetTrainerAL, epochs=1))
    trainer = trainer_of(make_tiny_preprocessed(), continued=True)
    with pytest.raises(ModelError, match=r"checkpoint_final\.pth holds no loss module"):
        trainer.load_checkpoint(str(final(other)))


# ---------------------------------------------------------------- fine-tuning


def test_fine_tuning_goes_on_from_the_module_of_the_round_before(make_tiny_preprocessed, trainer_of):
    before = trained(trainer_of(make_tiny_preprocessed(), epochs=1))
    trainer = trainer_of(make_tiny_preprocessed(), initial_weights=str(final(before)), round=2)
    trainer.initialize()
    assert equal(copied(trainer.loss_module), module_of(final(before)))
    assert equal(copied(trainer.network), final_weights(before))
    assert not trainer.module_optimizer.state


def test_from_weights_without_a_module_it_starts_afresh_and_seeded(make_tiny_preprocessed, trainer_of):
    before = trained(trainer_of(make_tiny_preprocessed(), nnUNetTrainerAL, epochs=1))
    modules = []
    for settings in ({}, {}, {"seed": 8}):
        trainer = trainer_of(make_tiny_preprocessed(), initial_weights=str(final(before)), **settings)
        trainer.initialize()
        modules.append(copied(trainer.loss_module))
    assert equal(modules[0], modules[1])
    assert not equal(modules[0], modules[2])


# ---------------------------------------------------------------- scoring, and stock nnU-Net


def test_scoring_reads_the_module_that_was_trained(tiny_preprocessed, trainer_of):
    trainer = trained(trainer_of(tiny_preprocessed, epochs=1))
    module = load_loss_module(final(trainer), trainer.network)
    assert not module.training
    image = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    read, held = (LossSampler(trainer.network, one, True)(image) for one in (module, trainer.loss_module))
    assert torch.equal(read.predicted_loss_B, held.predicted_loss_B)


def test_a_module_may_read_encoder_and_bottleneck(tiny_preprocessed, trainer_of):
    trainer = trained(trainer_of(tiny_preprocessed, epochs=1, loss_features="encoder"))
    assert read(final(trainer))[LEARNING_LOSS_KEY]["part"] == "encoder"
    module = load_loss_module(final(trainer), trainer.network)
    widths = [branch.in_features for branch in module.branches]
    assert widths == list(trainer.network.encoder.output_channels)
    image = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected_B = module(trainer.network.eval().encoder(image))
    assert torch.equal(LossSampler(trainer.network, module, True)(image).predicted_loss_B, expected_B)

    content = read(final(trainer))
    del content[LEARNING_LOSS_KEY]["part"]  # a checkpoint of an earlier version read the decoder
    torch.save(content, final(trainer))
    with pytest.raises(ModelError, match="belongs to other features"):
        load_loss_module(final(trainer), trainer.network)


def test_the_margin_is_that_of_the_settings(tiny_preprocessed, trainer_of, batch_of):
    ranking = {}
    for margin in (0.0, 1.0, 5.0):
        trainer = trainer_of(tiny_preprocessed, batch_size=4, dropout_p=0.0, loss_margin=margin)
        trainer.initialize()
        trainer._optimizer_step = lambda *_: None
        ranking[margin] = float(trainer.train_step(batch_of(trainer))["ranking_loss"])
    # far from the hinge a margin adds itself: fresh predictions differ by less than 1
    assert ranking[5.0] - ranking[1.0] == pytest.approx(4, abs=1e-4)
    assert 0 <= ranking[0.0] < 0.5


def test_scoring_refuses_the_checkpoint_of_another_trainer(make_tiny_preprocessed, trainer_of):
    trainer = trained(trainer_of(make_tiny_preprocessed(), nnUNetTrainerAL, epochs=1))
    with pytest.raises(ModelError, match="was not trained by nnUNetTrainerALLearningLoss: start the campaign with -tr"):
        load_loss_module(final(trainer), trainer.network)
    with pytest.raises(ModelError, match=r"missing\.pth does not exist"):
        load_loss_module(final(trainer).with_name("missing.pth"), trainer.network)


def test_scoring_refuses_the_module_of_another_decoder(tiny_preprocessed, trainer_of):
    trainer = trained(trainer_of(tiny_preprocessed, epochs=1))
    content = read(final(trainer))
    content[LEARNING_LOSS_KEY]["module"] = LossModule((1, 2, 3)).state_dict()
    torch.save(content, final(trainer))
    with pytest.raises(ModelError, match="belongs to other features"):
        load_loss_module(final(trainer), trainer.network)


def test_stock_nnunet_predicts_and_trains_on_with_the_checkpoint(make_tiny_preprocessed, trainer_of):
    tiny = make_tiny_preprocessed()
    trainer = trained(trainer_of(tiny, epochs=1))
    assert folder_of(trainer).parent.name == f"nnUNetTrainerALLearningLoss__{tiny.plans_name}__3d_fullres"
    content = read(final(trainer))
    assert content["trainer_name"] == "nnUNetTrainer"
    parent = read(final(trained(trainer_of(make_tiny_preprocessed(), nnUNetTrainerAL, epochs=1))))
    assert content.keys() - parent.keys() == {LEARNING_LOSS_KEY}
    assert content["network_weights"].keys() == parent["network_weights"].keys()

    predictor = nnUNetPredictor(use_mirroring=False, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,))
    image = torch.randn(1, 1, 16, 16, 16)
    trainer.network.eval()
    trainer.set_deep_supervision_enabled(False)
    with torch.no_grad():
        assert torch.equal(predictor.network.eval()(image), trainer.network(image))

    stock = nnUNetTrainer(tiny.plans | {"continue_training": False}, "3d_fullres", 0, tiny.dataset_json, CPU)
    stock.load_checkpoint(str(final(trainer)))
    assert equal(stock.network.state_dict(), final_weights(trainer))
    assert optimizer_states(stock.optimizer.state_dict()) == optimizer_states(trainer.optimizer.state_dict())
