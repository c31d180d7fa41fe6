from __future__ import annotations

import pytest
import torch
from torch import nn

from nnunet_al.errors import ModelError
from nnunet_al.scoring.dropout import insert_dropout
from nnunet_al.scoring.learning_loss import LossModule, LossSampler, ranking_loss, stage_channels, stage_features
from nnunet_al.scoring.posterior import head_probabilities

from .networks import images, unet

KINDS = [("plain", 2), ("plain", 3), ("residual", 2), ("residual", 3)]


def module_for(network: nn.Module, seed: int = 0) -> LossModule:
    torch.manual_seed(seed)
    return LossModule(stage_channels(network))


def learned_loss(network: nn.Module, module: LossModule, data_B_C_xyz: torch.Tensor) -> torch.Tensor:
    return LossSampler(network, module, exclusive=True)(data_B_C_xyz).predicted_loss_B


def hooks_of(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


# ---------------------------------------------------------------- ranking loss


def test_pairs_by_hand():
    """Pairs (0, 2) and (1, 3): in order by 3, which costs nothing; in wrong order by 0.5, which costs 1.5."""
    predicted = torch.tensor([4.0, 1.0, 1.0, 1.5], requires_grad=True)
    loss = ranking_loss(predicted, torch.tensor([0.9, 0.8, 0.1, 0.2]))
    assert loss.item() == pytest.approx((0 + 1.5) / 2)
    loss.backward()
    assert predicted.grad.tolist() == [0.0, -0.5, 0.0, 0.5]


def test_a_pair_in_order_still_costs_what_is_missing_to_the_margin():
    predicted, loss = torch.tensor([0.3, 0.0]), torch.tensor([2.0, 1.0])
    assert ranking_loss(predicted, loss).item() == pytest.approx(0.7)
    assert ranking_loss(predicted, loss, margin=0.5).item() == pytest.approx(0.2)
    assert ranking_loss(predicted, loss.flip(0)).item() == pytest.approx(1.3)


def test_only_the_order_of_the_losses_matters_and_they_get_no_gradient():
    predicted = torch.randn(8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = torch.rand(8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    value = ranking_loss(predicted, loss)
    assert torch.equal(value, ranking_loss(predicted, 100 * loss - 7))
    value.backward()
    assert loss.grad is None
    assert (predicted.grad != 0).any()


def test_the_last_of_an_odd_batch_is_left_out():
    predicted, loss = torch.tensor([1.0, 2.0, 9.0]), torch.tensor([1.0, 2.0, -5.0])
    assert ranking_loss(predicted, loss).item() == ranking_loss(predicted[:2], loss[:2]).item() == 0.0


def test_equal_losses_cost_the_margin_and_pull_nowhere():
    predicted = torch.tensor([3.0, -2.0], requires_grad=True)
    loss = ranking_loss(predicted, torch.tensor([0.5, 0.5]), margin=2.0)
    loss.backward()
    assert loss.item() == 2.0
    assert predicted.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("size", [0, 1])
def test_without_a_pair_the_loss_and_its_gradient_are_zero(size):
    predicted = torch.ones(size, requires_grad=True)
    loss = ranking_loss(predicted, torch.ones(size))
    loss.backward()
    assert loss.item() == 0.0
    assert (predicted.grad == 0).all()


def test_it_equals_torchs_own_margin_ranking_loss():
    generator = torch.Generator().manual_seed(3)
    predicted, loss = torch.randn(10, generator=generator), torch.randn(10, generator=generator)
    expected = nn.MarginRankingLoss(margin=1.0)(predicted[:5], predicted[5:], torch.sign(loss[:5] - loss[5:]))
    assert ranking_loss(predicted, loss).item() == pytest.approx(expected.item(), abs=1e-6)


# ---------------------------------------------------------------- module


def test_the_module_by_hand():
    """Means 2 and (1, 3); branches relu(2 · 2) = 4, relu(1 - 3) = 0 and a head that adds up and takes 1 off."""
    module = LossModule((1, 2), width=1)
    with torch.no_grad():
        for branch, weight in zip(module.branches, ([[2.0]], [[1.0, -1.0]]), strict=True):
            branch.weight.copy_(torch.tensor(weight))
            branch.bias.zero_()
        module.head.weight.fill_(1.0)
        module.head.bias.fill_(-1.0)
    deep = torch.tensor([1.0, 3.0]).reshape(1, 1, 2)
    shallow = torch.stack([torch.ones(4), torch.tensor([0.0, 6.0, 6.0, 0.0])]).unsqueeze(0)
    assert module([deep, shallow]).tolist() == [3.0]


def test_it_reads_half_precision_as_float32():
    module = module_for(unet())
    features = [torch.rand(2, channels, 4, 4).half() for channels in stage_channels(unet())]
    predicted = module(features)
    assert predicted.dtype == torch.float32
    assert torch.equal(predicted, module([map_.float() for map_ in features]))


def test_trained_on_the_ranking_alone_it_learns_the_order():
    """Features whose mean is the loss, at another scale: on unseen samples almost all pairs come into their order."""
    torch.manual_seed(0)
    module = LossModule((3,), width=16)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)

    def draw(count):
        features = torch.randn(count, 3, 5, 5)
        return [features], features.mean((2, 3)) @ torch.tensor([1.0, -1.0, 0.5]) / 100

    for _ in range(150):
        features, loss = draw(32)
        optimizer.zero_grad()
        ranking_loss(module(features), loss).backward()
        optimizer.step()
    features, loss = draw(200)
    with torch.no_grad():
        predicted = module(features)
    in_order = (predicted[:100] > predicted[100:]) == (loss[:100] > loss[100:])
    assert in_order.float().mean() > 0.9


# ---------------------------------------------------------------- taps


@pytest.mark.parametrize("kind,dims", KINDS)
@pytest.mark.parametrize("deep", [False, True])
def test_the_taps_hold_what_the_output_heads_read(kind, dims, deep):
    network = unet(kind, dims, deep=deep).eval()
    with torch.no_grad(), stage_features(network) as features:
        output = network(images(2, dims))
        heads = [head(map_) for head, map_ in zip(network.decoder.seg_layers, features, strict=True)]
    assert tuple(map_.shape[1] for map_ in features) == stage_channels(network) == (6, 4)
    if deep:
        assert all(torch.equal(a, b) for a, b in zip(heads[::-1], output, strict=True))
    else:
        assert torch.equal(heads[-1], output)


@pytest.mark.parametrize("kind,dims", KINDS)
def test_the_encoders_taps_hold_its_skips_and_the_bottleneck(kind, dims):
    network, data = unet(kind, dims).eval(), images(2, dims)
    module = LossModule(stage_channels(network, "encoder"), part="encoder")
    with torch.no_grad():
        with stage_features(network, "encoder") as features:
            network(data)
        skips = network.encoder(data)
    assert len(skips) == len(features) == 3
    assert all(torch.equal(a, b) for a, b in zip(features, skips, strict=True))
    assert tuple(map_.shape[1] for map_ in skips) == stage_channels(network, "encoder") == (4, 6, 8)
    with torch.no_grad():
        assert torch.equal(LossSampler(network, module, True)(data).predicted_loss_B, module(skips))
    with pytest.raises(ModelError, match="WithoutStages has no encoder"):
        stage_channels(WithoutStages(), "encoder")


def test_the_taps_hold_the_latest_pass_and_its_graph():
    network = unet()
    with stage_features(network) as features:
        network(images(3))
        network(images(1))
        assert [len(map_) for map_ in features] == [1, 1]
        features[0].sum().backward()
    assert network.encoder.stages[0][0].convs[0].conv.weight.grad is not None


def test_no_hook_is_left_behind_even_by_an_error():
    network = unet()
    with stage_features(network):
        assert hooks_of(network) == 3
    assert hooks_of(network) == 0
    with pytest.raises(RuntimeError), stage_features(network):
        network(torch.zeros(1, 7, 16, 16))
    assert hooks_of(network) == 0
    with pytest.raises(RuntimeError):
        learned_loss(network, module_for(network), torch.zeros(1, 7, 16, 16))
    assert hooks_of(network) == 0


class WithoutStages(nn.Conv2d):
    def __init__(self):
        super().__init__(1, 2, 1)


class ForeignStages(WithoutStages):
    def __init__(self):
        super().__init__()
        self.decoder = nn.Module()
        self.decoder.stages = nn.ModuleList([nn.Identity()])


def test_a_network_without_a_decoder_like_nnunets_is_refused():
    with pytest.raises(ModelError, match="WithoutStages has no decoder"):
        stage_channels(WithoutStages())
    with pytest.raises(ModelError, match="ForeignStages has no decoder"):
        stage_channels(ForeignStages())
    with pytest.raises(ModelError, match="WithoutStages has no decoder"), stage_features(WithoutStages()):
        pass


# ---------------------------------------------------------------- prediction


@pytest.mark.parametrize("kind,dims", KINDS)
def test_a_windows_prediction_does_not_depend_on_its_batch(kind, dims):
    network = unet(kind, dims)
    module, data = module_for(network), images(5, dims)
    whole = learned_loss(network, module, data)
    assert whole.shape == (5,)
    assert len(set(whole.tolist())) == 5
    alone = torch.cat([learned_loss(network, module, one) for one in data.split(1)])
    assert torch.allclose(whole, alone, atol=1e-5)
    assert torch.allclose(learned_loss(network, module, data.flip(0)).flip(0), whole, atol=1e-5)


def test_dropout_is_off_and_every_mode_stays_as_it_was():
    network = unet()
    module, data = module_for(network), images(2)
    plain = learned_loss(network, module, data)
    insert_dropout(network, p=0.5)
    network.train()
    module.train()
    assert torch.equal(learned_loss(network, module, data), plain)
    assert all(one.training for one in [*network.modules(), *module.modules()])


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("deep", [False, True])
def test_the_sampler_gives_probabilities_and_losses_of_one_pass(exclusive, deep):
    network = unet(deep=deep)
    module, data = module_for(network), images(3)
    passes = []
    hook = network.register_forward_hook(lambda *_: passes.append(1))
    samples = LossSampler(network, module, exclusive)(data)
    hook.remove()
    assert len(passes) == 1
    with torch.no_grad(), stage_features(network) as features:
        output = network.eval()(data)
        predicted = module.eval()(features)
    logits = output[0] if deep else output
    expected = head_probabilities(logits, exclusive)
    assert samples.probs_T_B_C_xyz.shape == (1, 3, 3, 16, 16)
    assert samples.probs_T_B_C_xyz.dtype == torch.float32
    assert torch.equal(samples.probs_T_B_C_xyz[0], expected)
    assert samples.visible_B_xyz is None
    assert torch.equal(samples.predicted_loss_B, predicted)
