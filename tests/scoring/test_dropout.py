from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nnunet_al.errors import ModelError
from nnunet_al.scoring.dropout import (
    DropoutActivation,
    draw_masks,
    dropout_layers,
    evaluating,
    insert_dropout,
    sub_network,
)

from .networks import SPATIAL, images, unet

KINDS = [("plain", 2), ("plain", 3), ("residual", 2), ("residual", 3)]


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind,dims", KINDS)
@pytest.mark.parametrize("where", ["decoder", "last", "all"])
def test_state_dict_is_the_stock_one_both_ways(kind: str, dims: int, where: str) -> None:
    stock, changed = unet(kind, dims, seed=0), unet(kind, dims, seed=1)
    insert_dropout(changed, 0.2, where)
    assert list(stock.state_dict()) == list(changed.state_dict())
    changed.load_state_dict(stock.state_dict(), strict=True)
    data = images(2, dims)
    with torch.no_grad(), evaluating(stock), evaluating(changed):
        assert torch.equal(stock(data), changed(data))
    other = unet(kind, dims, seed=2)
    other.load_state_dict(changed.state_dict(), strict=True)
    with torch.no_grad(), evaluating(other), evaluating(changed):
        assert torch.equal(other(data), changed(data))


@pytest.mark.parametrize("kind,dims", KINDS)
def test_every_place_of_an_activation_gets_the_same_wrapper(kind: str, dims: int) -> None:
    network = unet(kind, dims)
    stock = sum(isinstance(module, nn.LeakyReLU) for module in network.modules())
    layers = insert_dropout(network, 0.1, "all")
    assert len(layers) == stock == len(dropout_layers(network))
    places = [
        path for path, module in network.named_modules(remove_duplicate=False) if isinstance(module, nn.LeakyReLU)
    ]
    assert all(path.endswith(".activation") for path in places)
    block = network.decoder.stages[0].convs[0]
    assert block.nonlin is block.all_modules[-1]
    assert any(block.nonlin is layer for layer in layers)


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_decoder_means_bottleneck_and_decoder_only(kind: str) -> None:
    network = unet(kind)
    layers = insert_dropout(network)
    assert not any(isinstance(module, DropoutActivation) for module in network.encoder.stages[:-1].modules())
    inside = [*network.encoder.stages[-1].modules(), *network.decoder.stages.modules()]
    assert {id(layer) for layer in layers} == {id(m) for m in inside if isinstance(m, DropoutActivation)}
    assert len(layers) == 4  # two in the bottleneck, one for each of two decoder stages


def test_second_call_keeps_the_layers_and_changes_p() -> None:
    network = unet()
    first = insert_dropout(network, 0.1)
    second = insert_dropout(network, 0.3)
    assert [id(layer) for layer in first] == [id(layer) for layer in second]
    assert {layer.p for layer in dropout_layers(network)} == {0.3}
    assert not any(isinstance(layer.activation, DropoutActivation) for layer in first)


def test_insertion_follows_the_mode_of_the_network() -> None:
    network = unet().eval()
    assert not any(layer.training for layer in insert_dropout(network))


def test_training_drops_whole_channels_per_sample_and_keeps_the_expectation() -> None:
    layer = DropoutActivation(nn.ReLU(), 0.25).train()
    torch.manual_seed(0)
    out = layer(torch.ones(64, 50, 3, 3))
    per_channel = out.flatten(2)
    assert torch.equal(per_channel.amax(2), per_channel.amin(2))
    torch.testing.assert_close(out.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)
    assert not torch.equal(out[0], out[1])
    torch.manual_seed(0)
    assert torch.equal(out, layer(torch.ones(64, 50, 3, 3)))


def test_mask_scales_and_holds_for_all_samples_in_both_modes() -> None:
    layer = DropoutActivation(nn.ReLU(), 0.5)
    layer.mask_C_xyz = torch.tensor([True, False, True])
    data = torch.tensor([[[1.0], [1.0], [-1.0]], [[3.0], [1.0], [2.0]]])
    expected = torch.tensor([[[2.0], [0.0], [0.0]], [[6.0], [0.0], [4.0]]])
    assert torch.equal(layer.eval()(data.clone()), expected)
    assert torch.equal(layer.train()(data.clone()), expected)
    assert not layer.state_dict()


def test_masks_have_the_layers_channels_and_the_rate() -> None:
    network = unet("plain", 3)
    layers = insert_dropout(network, 0.25, "all")
    masks = draw_masks(network, images(1, 3), 400, _rng())
    assert [mask.dtype for mask in masks] == [torch.bool] * len(layers)
    assert sorted({tuple(mask.shape) for mask in masks}) == [(400, 4), (400, 6), (400, 8)]
    kept = torch.cat([mask.flatten() for mask in masks]).float().mean().item()
    assert kept == pytest.approx(0.75, abs=0.01)
    again = draw_masks(network, torch.zeros(1, 2, *SPATIAL[3]), 400, _rng())
    assert all(torch.equal(a, b) for a, b in zip(masks, again, strict=True))


def test_every_mask_keeps_a_channel() -> None:
    network = unet()
    insert_dropout(network, 0.99)
    masks = draw_masks(network, images(1), 200, _rng())
    assert all(mask.any(1).all() for mask in masks)


def test_sub_networks_are_deterministic_differ_and_leave_no_trace() -> None:
    network = unet().eval()
    insert_dropout(network, 0.3)
    data = images(2)
    masks = draw_masks(network, data[:1], 3, _rng())
    with torch.no_grad():
        plain = network(data)
        outputs = []
        for t in (0, 1, 0):
            with sub_network(network, masks, t):
                outputs.append(network(data))
        assert torch.equal(outputs[0], outputs[2])
        assert not torch.equal(outputs[0], outputs[1])
        assert torch.equal(network(data), plain)
    with pytest.raises(RuntimeError, match="stop"), sub_network(network, masks, 0):
        raise RuntimeError("stop")
    assert all(layer.mask_C_xyz is None for layer in dropout_layers(network))


def test_evaluating_restores_each_modules_mode() -> None:
    network = unet().train()
    network.encoder.eval()
    before = [module.training for module in network.modules()]
    with evaluating(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == before


def test_networks_without_dropout_are_refused() -> None:
    network = unet()
    with pytest.raises(ModelError, match="without dropout cannot be sampled"):
        draw_masks(network, images(1), 2, _rng())
    with pytest.raises(ModelError, match="without dropout cannot be sampled"), sub_network(network, [], 0):
        pass
    with pytest.raises(ModelError, match="without dropout cannot be sampled"):
        insert_dropout(nn.Sequential(nn.Conv2d(1, 2, 3)), where="all")


def test_what_dropout_cannot_be_put_into_is_refused() -> None:
    with pytest.raises(ModelError, match="PReLU"):
        insert_dropout(nn.Sequential(nn.Conv2d(1, 2, 3), nn.PReLU(), nn.ReLU()), where="all")
    with pytest.raises(ModelError, match=r"encoder\.stages"):
        insert_dropout(nn.Sequential(nn.ReLU()))
    with pytest.raises(ModelError, match="'encoder'"):
        insert_dropout(unet(), where="encoder")
    with pytest.raises(ModelError, match="probability"):
        insert_dropout(unet(), 1.0)


def test_one_activation_with_two_channel_counts_is_refused() -> None:
    shared = nn.ReLU()
    network = nn.Sequential(nn.Conv2d(1, 2, 3), shared, nn.Conv2d(2, 3, 3), shared)
    assert len(insert_dropout(network, where="all")) == 1
    with pytest.raises(ModelError, match=r"\[2, 3\] channels"):
        draw_masks(network, torch.zeros(1, 1, 8, 8), 2, _rng())


def test_elements_are_dropped_one_by_one_in_training() -> None:
    torch.manual_seed(0)
    layer = DropoutActivation(nn.ReLU(), 0.25, "elements").train()
    out = layer(torch.ones(16, 10, 9, 9))
    torch.testing.assert_close(out.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(out.flatten(2).amax(2), out.flatten(2).amin(2)), "no channel goes as a whole"
    # what the mean over a channel does not follow is not a channel's
    assert out.flatten(2).mean(2).std().item() == pytest.approx((0.25 / 0.75 / 81) ** 0.5, rel=0.2)
    assert torch.equal(layer.eval()(torch.ones(1, 10, 9, 9)), torch.ones(1, 10, 9, 9))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("where", ["decoder", "last", "all"])
def test_element_masks_fit_the_activations_and_do_in_a_plain_pass_what_they_say(dims: int, where: str) -> None:
    network, data = unet(dims=dims).eval(), images(2, dims)
    layers = insert_dropout(network, 0.25, where, "elements")
    masks = draw_masks(network, torch.zeros_like(data[:1]), 6, _rng())
    assert [mask.dtype for mask in masks] == [torch.bool] * len(layers)
    kept = torch.cat([mask.flatten() for mask in masks]).float().mean().item()
    assert kept == pytest.approx(0.75, abs=0.02)
    assert all(torch.equal(a, b) for a, b in zip(masks, draw_masks(network, data[:1], 6, _rng()), strict=True))

    def by_hand(mask: torch.Tensor) -> object:
        return lambda _module, _args, out: out * mask / 0.75

    with torch.no_grad():
        for t in (0, 5):
            with sub_network(network, masks, t):
                sampled = network(data)
            hooks = [
                layer.activation.register_forward_hook(by_hand(mask[t]))  # type: ignore[arg-type]
                for layer, mask in zip(layers, masks, strict=True)
            ]
            torch.testing.assert_close(sampled, network(data), rtol=1e-4, atol=1e-5)
            for hook in hooks:
                hook.remove()


def test_one_activation_with_two_sizes_is_refused_only_for_elements() -> None:
    shared = nn.ReLU()
    network = nn.Sequential(nn.Conv2d(1, 2, 3), shared, nn.Conv2d(2, 2, 3), shared)
    insert_dropout(network, where="all")
    assert draw_masks(network, torch.zeros(1, 1, 8, 8), 2, _rng())[0].shape == (2, 2)
    insert_dropout(network, where="all", of="elements")
    with pytest.raises(ModelError, match=r"\[\[2, 4, 4\], \[2, 6, 6\]\] elements"):
        draw_masks(network, torch.zeros(1, 1, 8, 8), 2, _rng())
