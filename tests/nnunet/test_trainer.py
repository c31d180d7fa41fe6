from __future__ import annotations

import errno
import functools
import json
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_al.errors import ModelError, StorageError
from nnunet_al.nnunet import training_length
from nnunet_al.nnunet.checkpoints import TRAINED_HEADS_KEY, trained_heads, write_checkpoint
from nnunet_al.nnunet.trainer import nnUNetTrainerAL
from nnunet_al.nnunet.training_precision import compute_in
from nnunet_al.scoring.dropout import DropoutActivation

from .conftest import CASES, IGNORE
from .trainings import CPU, Killed, equal, final_weights, folder_of, killed_at, make_trainer, read, trained


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    torch.set_num_threads(1)


@pytest.fixture
def trainer_of(monkeypatch):
    """A function (dataset, settings) -> trainer of fold 0 in the dataset's own results folder."""

    return functools.partial(make_trainer, monkeypatch)


# ---------------------------------------------------------------- settings


def test_the_settings_reach_the_training(tiny_preprocessed, trainer_of):
    trainer = trainer_of(tiny_preprocessed, epochs=3, iterations=10, batch_size=5, optimizer="adamw", round=4)
    trainer.initialize()
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch) == (3, 10, 2)
    assert trainer.batch_size == trainer.configuration_manager.batch_size == 5
    assert trainer.plans_manager.plans["configurations"]["3d_fullres"]["batch_size"] == 2, "the plans are the planner's"
    group = trainer.optimizer.param_groups[0]
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert (group["lr"], group["weight_decay"]) == (1e-3, 1e-2)
    assert {id(p) for p in group["params"]} == {id(p) for p in trainer.network.parameters()}


def test_the_learning_rate_decays_polynomially(tiny_preprocessed, trainer_of):
    for optimizer, first in (("sgd", 1e-2), ("adamw", 1e-3)):
        trainer = trainer_of(tiny_preprocessed, epochs=4, optimizer=optimizer)
        trainer.initialize()
        trainer.lr_scheduler.step(2)
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(first * 0.5**0.9)


def test_dropped_in_without_settings_it_trains_as_nnunet_does(tiny_preprocessed, trainer_of):
    trainer = trainer_of(tiny_preprocessed)
    (tiny_preprocessed.folder / "nnUNetTrainerAL.json").unlink()
    trainer = nnUNetTrainerAL(
        tiny_preprocessed.plans | {"continue_training": False}, "3d_fullres", 0, tiny_preprocessed.dataset_json, CPU
    )
    stock = nnUNetTrainer(
        tiny_preprocessed.plans | {"continue_training": False}, "3d_fullres", 0, tiny_preprocessed.dataset_json, CPU
    )
    for one in (trainer, stock):
        one.initialize()
    for name in ("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch", "initial_lr", "batch_size"):
        assert getattr(trainer, name) == getattr(stock, name)
    assert str(trainer.optimizer) == str(stock.optimizer)


# ---------------------------------------------------------------- network


def test_the_network_is_nnunets_with_dropout_in_training_only(tiny_preprocessed, trainer_of):
    trainer = trainer_of(tiny_preprocessed, dropout_p=0.5)
    trainer.initialize()
    assert any(isinstance(module, DropoutActivation) for module in trainer.network.modules())
    stock = trainer.build_network_architecture(trainer.plans_manager, trainer.configuration_manager, 1, 3)
    assert not any(isinstance(module, DropoutActivation) for module in stock.modules())
    assert list(stock.state_dict()) == list(trainer.network.state_dict())
    stock.load_state_dict(trainer.network.state_dict())
    image = torch.randn(2, 1, 16, 16, 16)
    with torch.no_grad():
        trainer.network.eval()
        assert torch.equal(trainer.network(image)[0], stock.eval()(image)[0])
        trainer.network.train()
        assert not torch.equal(trainer.network(image)[0], trainer.network(image)[0])


def test_no_dropout_when_its_probability_is_zero(tiny_preprocessed, trainer_of):
    trainer = trainer_of(tiny_preprocessed, dropout_p=0.0)
    trainer.initialize()
    assert not any(isinstance(module, DropoutActivation) for module in trainer.network.modules())


# ---------------------------------------------------------------- what is supervised


@pytest.mark.parametrize("regions", [False, True])
def test_predictions_where_nothing_is_annotated_change_neither_loss_nor_gradient(
    make_tiny_preprocessed, trainer_of, regions
):
    trainer = trainer_of(make_tiny_preprocessed(regions=regions), batch_size=4)
    trainer.initialize()
    _, loader = trainer.get_dataloaders()
    batch = next(loader)
    targets = batch["target"]
    unknown = [t[:, -1:].bool() if regions else t == IGNORE for t in targets]
    assert all(u.any() and not u.all() for u in unknown)
    heads = trainer.label_manager.num_segmentation_heads
    outputs = [torch.randn(4, heads, *t.shape[2:], requires_grad=True) for t in targets]
    poisoned = [o.detach() + 50 * torch.randn_like(o) * u for o, u in zip(outputs, unknown, strict=True)]
    loss = trainer.loss(outputs, targets)
    loss.backward()
    assert trainer.loss(poisoned, targets).item() == pytest.approx(loss.item(), abs=1e-6)
    for output, mask in zip(outputs, unknown, strict=True):
        if output.grad is not None:  # the coarsest output has no weight
            assert (output.grad * mask == 0).all()
    assert (outputs[0].grad * ~unknown[0] != 0).any()


def test_padding_of_training_batches_is_ignored(tiny_preprocessed, trainer_of):
    """Every voxel is annotated as structure: what is not, in a batch, lies outside the mask or beyond the image."""
    folder = tiny_preprocessed.data_folder
    for case in CASES:
        _, seg, _, _ = nnUNetDatasetBlosc2(str(folder)).load_case(case)
        seg = np.where(seg[:] == -1, -1, 1).astype(np.int16)
        nnUNetDatasetBlosc2.save_seg(seg, str(folder / f"{case}_seg"))
    trainer = trainer_of(tiny_preprocessed, batch_size=8)
    trainer.initialize()
    found = []
    for loader in trainer.get_dataloaders():
        values = torch.cat([next(loader)["target"][0].flatten() for _ in range(3)])
        found.append(set(values.unique().tolist()))
    # what is augmented is turned out of the image; a patch for validation lies within it
    assert found == [{0, 1, IGNORE}, {0, 1}]


def test_a_dataset_without_ignore_label_is_read_by_nnunets_own_class(make_tiny_preprocessed, trainer_of):
    trainer = trainer_of(make_tiny_preprocessed(ignore=False))
    trainer.initialize()
    assert trainer.dataset_class is nnUNetDatasetBlosc2


@pytest.mark.parametrize(
    "variant",
    [
        {"regions": True},
        {"channels": 2},
        {"configuration": "2d"},
        {"configuration": "2d", "channels": 2, "regions": True},
        {"ignore": False},
    ],
    ids=str,
)
def test_every_kind_of_dataset_trains(make_tiny_preprocessed, trainer_of, variant):
    trainer = trained(trainer_of(make_tiny_preprocessed(**variant), epochs=1))
    checkpoint = read(folder_of(trainer) / "checkpoint_final.pth")
    assert all(torch.isfinite(value).all() for value in checkpoint["network_weights"].values())
    assert np.isfinite(checkpoint["logging"]["train_losses"]).all()


# ---------------------------------------------------------------- precision


def test_half_precision_is_of_the_network_alone(tiny_preprocessed, trainer_of):
    trainer = trainer_of(tiny_preprocessed, precision="half", epochs=1)
    seen = set()
    stock = trainer._build_loss

    def noting_loss():
        loss = stock()
        loss.register_forward_pre_hook(lambda _module, args: seen.update(scale.dtype for scale in args[0]))
        return loss

    trainer._build_loss = noting_loss
    trainer.initialize()
    layer = next(m for m in trainer.network.modules() if isinstance(m, torch.nn.Conv3d))
    computed = []
    layer.register_forward_hook(lambda _module, _args, out: computed.append(out.dtype))
    trainer.run_training()
    assert seen == {torch.float32}, "the loss is computed in float32"
    assert set(computed) == {torch.bfloat16}
    checkpoint = read(folder_of(trainer) / "checkpoint_final.pth")
    assert {weight.dtype for weight in checkpoint["network_weights"].values()} == {torch.float32}
    momenta = [state["momentum_buffer"] for state in checkpoint["optimizer_state"]["state"].values()]
    assert {momentum.dtype for momentum in momenta} == {torch.float32}


def test_half_precision_trains_nearly_the_same_and_stock_is_float32_here(make_tiny_preprocessed, trainer_of):
    weights = {
        precision: final_weights(trained(trainer_of(make_tiny_preprocessed(), precision=precision)))
        for precision in ("stock", "float32", "half")
    }
    assert equal(weights["stock"], weights["float32"])
    assert not equal(weights["half"], weights["float32"])
    flat = {p: torch.cat([w.flatten() for w in weights[p].values()]) for p in weights}
    assert torch.norm(flat["half"] - flat["float32"]) < 0.05 * torch.norm(flat["float32"])


def test_float32_on_a_gpu_is_not_rounded_to_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    compute_in("half", torch.nn.Conv2d(1, 1, 1), torch.device("cuda"))
    assert torch.backends.cudnn.allow_tf32
    compute_in("float32", torch.nn.Conv2d(1, 1, 1), torch.device("cuda"))
    assert not torch.backends.cudnn.allow_tf32


# ---------------------------------------------------------------- a training that ends by itself


@pytest.fixture
def short_judgement(monkeypatch):
    """Trainings are judged after three epochs, and two cases are enough to hold one out."""
    monkeypatch.setattr(training_length, "SHORTEST", 3)
    monkeypatch.setattr(training_length, "LEAST_ITERATIONS", 1)
    monkeypatch.setattr(training_length, "ENOUGH_CASES", 2)


def as_in_a_round(tiny):
    """Every case trains, and some of these validate."""
    (tiny.folder / "splits_final.json").write_text(json.dumps([{"train": CASES, "val": CASES[::3]}]))
    return tiny


def test_a_training_ends_once_it_has_stopped_gaining(tiny_preprocessed, trainer_of, short_judgement, monkeypatch):
    monkeypatch.setattr(training_length, "LEAST_LOSS_GAIN", 1e3)
    monkeypatch.setattr(training_length, "LEAST_DICE_GAIN", 1e3)
    trainer = trained(trainer_of(tiny_preprocessed, epochs="auto", max_epochs=20, learning_rate=0.01))
    logged = read(folder_of(trainer) / "checkpoint_final.pth")["logging"]
    assert logged["lrs"] == pytest.approx([0.01, 0.01, 0.01, 0.0075, 0.005, 0.0025])
    assert trainer.current_epoch == trainer.num_epochs == 6


def test_a_training_that_gains_ends_at_its_bound(tiny_preprocessed, trainer_of, short_judgement, monkeypatch):
    monkeypatch.setattr(training_length, "LEAST_LOSS_GAIN", -1e3)
    trainer = trained(trainer_of(tiny_preprocessed, epochs="auto", max_epochs=8))
    assert trainer.current_epoch == 8
    assert len({*read(folder_of(trainer) / "checkpoint_final.pth")["logging"]["lrs"][:4]}) == 1


def test_cases_that_judge_join_the_training_for_the_decay(tiny_preprocessed, trainer_of, short_judgement, monkeypatch):
    monkeypatch.setattr(training_length, "LEAST_LOSS_GAIN", 1e3)
    monkeypatch.setattr(training_length, "LEAST_DICE_GAIN", 1e3)
    trainer = trainer_of(as_in_a_round(tiny_preprocessed), epochs="auto", max_epochs=20)
    seen = []
    stock = trainer.get_tr_and_val_datasets

    def noting():
        training, validation = stock()
        seen.append(({*training.identifiers}, {*validation.identifiers}))
        return training, validation

    trainer.get_tr_and_val_datasets = noting
    trained(trainer)
    (training, validation), (all_cases, _) = seen
    assert (training, validation) == ({*CASES[1:]}, {CASES[0]})
    assert all_cases == {*CASES}


def test_the_split_is_known_without_a_training(tiny_preprocessed, trainer_of, short_judgement):
    """nnU-Net's validation alone (nnUNetv2_train --val) asks for it."""
    trainer = trainer_of(as_in_a_round(tiny_preprocessed), epochs="auto", max_epochs=20)
    training, validation = trainer.do_split()
    assert ({*training}, {*validation}) == ({*CASES[1:]}, {CASES[0]})


# ---------------------------------------------------------------- reproducible and resumable


def test_equal_seeds_give_equal_weights_and_others_do_not(make_tiny_preprocessed, trainer_of):
    first, second = (final_weights(trained(trainer_of(make_tiny_preprocessed()))) for _ in range(2))
    other_round = final_weights(trained(trainer_of(make_tiny_preprocessed(), round=1)))
    assert equal(first, second)
    assert not equal(first, other_round)


def test_the_folds_of_one_round_start_and_train_differently(make_tiny_preprocessed, trainer_of):
    """Equal cases in both folds: what differs comes from the seeds alone."""

    def of_fold(fold):
        tiny = make_tiny_preprocessed()
        splits = json.loads((tiny.folder / "splits_final.json").read_text())
        (tiny.folder / "splits_final.json").write_text(json.dumps(splits * 2))
        trainer = trainer_of(tiny, fold=fold, epochs=1)
        trainer.initialize()
        initial = {name: value.clone() for name, value in trainer.network.state_dict().items()}
        trainer._seed(0)
        return initial, torch.rand(3), np.random.rand()

    (weights, drawn, number), (other_weights, other_drawn, other_number) = of_fold(0), of_fold(1)
    assert not equal(weights, other_weights)
    assert not torch.equal(drawn, other_drawn)
    assert number != other_number
    assert equal(weights, of_fold(0)[0])


@pytest.mark.parametrize(
    "moment,epoch,precision",
    [
        ("in the epoch", 0, "stock"),
        ("after checkpoint_best", 0, "half"),
        ("before checkpoint_latest", 1, "stock"),
        ("after checkpoint_latest", 1, "half"),
        ("in the epoch", 2, "half"),
        ("before checkpoint_final", 2, "stock"),
        ("after checkpoint_final", 2, "stock"),
        ("in the epoch", 1, "auto"),
        ("after checkpoint_latest", 2, "auto"),
        ("in the epoch", 3, "auto"),
        ("before checkpoint_final", 3, "auto"),
    ],
)
def test_killed_and_resumed_equals_uninterrupted_to_the_bit(
    make_tiny_preprocessed, trainer_of, short_judgement, moment, epoch, precision
):
    from nnunetv2.run.run_training import maybe_load_checkpoint

    settings = {"epochs": 3, "precision": precision}
    if precision == "auto":  # two epochs of constant rate, then two in which it falls, on one case more
        settings = {"epochs": "auto", "max_epochs": 4}
    whole = trained(trainer_of(as_in_a_round(make_tiny_preprocessed()), **settings))
    tiny = as_in_a_round(make_tiny_preprocessed())
    with pytest.raises(Killed):
        trainer_of(tiny, killed_at(moment, epoch), **settings).run_training()
    resumed = trainer_of(tiny, continued=True, **settings)
    dead = 2**22 + 1  # above the largest process id of Linux
    (folder_of(resumed) / f".{socket.gethostname()}-{dead}.tmp.checkpoint_latest.pth").write_bytes(b"half")
    maybe_load_checkpoint(resumed, continue_training=True, validation_only=False)
    trained(resumed)
    for name in ("final", "best"):
        one, other = (read(folder_of(t) / f"checkpoint_{name}.pth") for t in (whole, resumed))
        assert equal(one["network_weights"], other["network_weights"]), name
        assert one["current_epoch"] == other["current_epoch"]
        assert one["_best_ema"] == other["_best_ema"]
        for key in ("train_losses", "val_losses", "ema_fg_dice", "lrs"):
            assert one["logging"][key] == other["logging"][key]
        assert len(other["logging"]["epoch_end_timestamps"]) == other["current_epoch"]
    assert not list(folder_of(resumed).glob(".*")), "a half-written file was left"
    assert not (folder_of(resumed) / "checkpoint_latest.pth").exists()


def test_latest_knows_the_best_score_of_its_own_epoch(tiny_preprocessed, trainer_of):
    with pytest.raises(Killed):
        trainer_of(tiny_preprocessed, killed_at("after checkpoint_latest", 0)).run_training()
    (latest,) = tiny_preprocessed.results.rglob("checkpoint_latest.pth")
    content = read(latest)
    assert content["_best_ema"] == content["logging"]["ema_fg_dice"][-1]
    assert content["current_epoch"] == 1


def test_a_full_disk_is_one_sentence_and_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint_latest.pth"
    write_checkpoint({"epoch": 1}, path)

    class FullDisk:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    real = torch.save
    monkeypatch.setattr(torch, "save", lambda content, file: real(content, FullDisk()))
    with pytest.raises(StorageError, match="checkpoint_latest"):
        write_checkpoint({"epoch": 2}, path)
    assert read(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_progress_is_drawn_at_the_end_of_a_short_training(tiny_preprocessed, trainer_of, monkeypatch):
    from nnunetv2.training.logging.nnunet_logger import LocalLogger

    drawn = []
    monkeypatch.setattr(
        LocalLogger, "plot_progress_png", lambda self, folder: drawn.append(len(self.get_value("lrs", None)))
    )
    trained(trainer_of(tiny_preprocessed, epochs=3, iterations=1))
    assert drawn == [3]


# ---------------------------------------------------------------- warm start


@pytest.fixture
def checkpoint(make_tiny_preprocessed, trainer_of):
    """The checkpoint of a finished round."""
    return folder_of(trained(trainer_of(make_tiny_preprocessed(), epochs=1))) / "checkpoint_final.pth"


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_a_warm_start_copies_every_weight(checkpoint, tiny_preprocessed, trainer_of, prefix):
    content = read(checkpoint)
    weights = content["network_weights"]
    content["network_weights"] = {prefix + name: value for name, value in weights.items()}
    torch.save(content, checkpoint)
    trainer = trainer_of(tiny_preprocessed, initial_weights=str(checkpoint), round=2)
    trainer.initialize()
    assert any("seg_layers" in name for name in weights)
    assert equal(trainer.network.state_dict(), weights)
    assert trainer.current_epoch == 0
    assert not trainer.optimizer.state, "the optimiser starts afresh"


def test_weights_of_another_architecture_are_refused(checkpoint, make_tiny_preprocessed, trainer_of):
    trainer = trainer_of(make_tiny_preprocessed(channels=2), initial_weights=str(checkpoint))
    with pytest.raises(ModelError, match=r"checkpoint_final\.pth does not fit the plans nnUNetPlans .*encoder"):
        trainer.initialize()
    content = read(checkpoint)
    content["network_weights"].pop("decoder.seg_layers.0.bias")
    torch.save(content, checkpoint)
    with pytest.raises(ModelError, match=r"decoder\.seg_layers\.0\.bias \(missing in the checkpoint"):
        trainer_of(make_tiny_preprocessed(), initial_weights=str(checkpoint)).initialize()


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint", {"weights": 1}, [1, 2]], ids=str)
def test_a_broken_or_foreign_checkpoint_is_named(tmp_path, tiny_preprocessed, trainer_of, content):
    path = tmp_path / "some.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ModelError, match=r"some\.pth"):
        trainer_of(tiny_preprocessed, initial_weights=str(path)).initialize()


def test_a_torn_checkpoint_is_named(checkpoint, tiny_preprocessed, trainer_of):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-5000])
    with pytest.raises(ModelError, match="cannot be read"):
        trainer_of(tiny_preprocessed, initial_weights=str(checkpoint)).initialize()


def test_a_resumed_training_does_not_start_over_from_the_initial_weights(
    checkpoint, make_tiny_preprocessed, trainer_of
):
    whole = trained(trainer_of(make_tiny_preprocessed(), initial_weights=str(checkpoint)))
    tiny = make_tiny_preprocessed()
    with pytest.raises(Killed):
        trainer_of(tiny, killed_at("in the epoch", 1), initial_weights=str(checkpoint)).run_training()
    resumed = trainer_of(tiny, initial_weights=str(checkpoint), continued=True)
    checkpoint.unlink()
    resumed.load_checkpoint(str(folder_of(resumed) / "checkpoint_latest.pth"))
    assert equal(final_weights(trained(resumed)), final_weights(whole))


# ---------------------------------------------------------------- stock nnU-Net


def test_stock_nnunet_predicts_with_our_checkpoint(tiny_preprocessed, trainer_of):
    trainer = trained(trainer_of(tiny_preprocessed))
    checkpoint = folder_of(trainer) / "checkpoint_final.pth"
    assert read(checkpoint)["trainer_name"] == "nnUNetTrainer"
    assert trained_heads(checkpoint) == max(1, len(trainer.network.decoder.seg_layers) - 1)
    trainer.loss = torch.nn.CrossEntropyLoss()
    assert trainer.checkpoint()[TRAINED_HEADS_KEY] == 1, "a trainer without deep supervision"
    predictor = nnUNetPredictor(use_mirroring=False, device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,))
    assert not any(isinstance(module, DropoutActivation) for module in predictor.network.modules())
    image = torch.randn(1, 1, 16, 16, 16)
    trainer.network.eval()
    trainer.set_deep_supervision_enabled(False)
    with torch.no_grad():
        assert torch.equal(predictor.network.eval()(image), trainer.network(image))


def test_stock_nnunet_trains_on_from_our_checkpoint(tiny_preprocessed, trainer_of):
    trainer = trained(trainer_of(tiny_preprocessed, epochs=1))
    stock = nnUNetTrainer(
        tiny_preprocessed.plans | {"continue_training": False}, "3d_fullres", 0, tiny_preprocessed.dataset_json, CPU
    )
    stock.load_checkpoint(str(folder_of(trainer) / "checkpoint_final.pth"))
    assert stock.current_epoch == 1
    assert equal(stock.network.state_dict(), final_weights(trainer))


@pytest.mark.slow
def test_our_checkpoint_needs_nothing_of_ours_to_predict(tiny_preprocessed, trainer_of, tmp_path):
    trainer = trained(trainer_of(tiny_preprocessed))
    code = """
import sys
sys.modules["nnunet_al"] = None
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
predictor.initialize_from_trained_model_folder(sys.argv[1], (0,))
torch.manual_seed(0)
torch.save(predictor.network.eval()(torch.randn(1, 1, 16, 16, 16)).detach(), sys.argv[2])
"""
    out = tmp_path / "logits.pth"
    command = [sys.executable, "-c", code, trainer.output_folder_base, str(out)]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    trainer.network.eval()
    trainer.set_deep_supervision_enabled(False)
    torch.manual_seed(0)
    with torch.no_grad():
        own = trainer.network(torch.randn(1, 1, 16, 16, 16))
    assert torch.allclose(read(out), own, atol=1e-5)


def test_a_network_of_two_stages_has_a_loss(make_tiny_preprocessed, trainer_of):
    trainer = trainer_of(make_tiny_preprocessed())
    trainer._get_deep_supervision_scales = lambda: [[1.0, 1.0, 1.0]]
    assert trainer._build_loss().weight_factors == (1.0,)
