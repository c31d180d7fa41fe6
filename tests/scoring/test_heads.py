"""Gradients of the log-likelihood summed over heads of deep supervision, beside plain autograd sample by sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from dynamic_network_architectures.building_blocks.unet_residual_decoder import UNetResDecoder
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nnunet_al.errors import ModelError
from nnunet_al.scoring.gradients import gradient_entries, select_entries, visit_gradients, weight_gradients
from nnunet_al.scoring.layers import convolutions, decoder_convolutions, number_of_heads
from nnunet_al.scoring.region_fisher import RegionFisher

from .networks import unet
from .plain import likelihood_of_heads, mean_of_squares

LAYERS = {"decoder": decoder_convolutions, "all": convolutions}
HEADS = {"full": 1, "trained": 2, "all": 3}


def batch(dims: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Two windows of 16 voxels along each axis; the region covers a part of each, with 1 / |V_r| on its voxels."""
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(2, 2, *(16,) * dims, generator=generator, dtype=torch.float64)
    mask = torch.rand(2, *(16,) * dims, generator=generator) > 0.4
    return data.to(dtype), mask.to(dtype) / mask.flatten(1).sum(1).view(-1, *(1,) * dims)


def network(kind: str, dims: int, deep: bool = False) -> nn.Module:
    return unet(kind, dims, deep=deep, stages=4).double()


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_equal_to_plain_autograd_per_sample(kind: str, dims: int, exclusive: bool, heads: str, layers: str) -> None:
    ours, plain = network(kind, dims), network(kind, dims, deep=True).eval()
    count = number_of_heads(ours, heads, None)
    assert count == HEADS[heads]
    data, weight = batch(dims)
    wanted, theirs = LAYERS[layers](ours), LAYERS[layers](plain)
    found = weight_gradients(ours, data, weight, wanted, exclusive, heads=count)
    samples = []
    for sample in range(len(data)):
        value = likelihood_of_heads(plain(data[sample : sample + 1])[:count], weight[sample : sample + 1], exclusive)
        gradients = torch.autograd.grad(
            value, [layer.weight for layer in theirs.values()], allow_unused=True, materialize_grads=True
        )
        samples.append({name: gradient[None] for name, gradient in zip(theirs, gradients, strict=True)})
    for name, gradient in found.items():
        expected = torch.cat([some[name] for some in samples])
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-11)
        counts = "seg_layers" not in name or int(name[-1]) >= 3 - count
        assert bool(gradient.any()) == counts, "heads that do not count, and nothing else, have no gradient"
    entries = {name: np.arange(0, layer.weight.numel(), 3) for name, layer in wanted.items()}
    picked = gradient_entries(ours, data, weight, entries, exclusive, heads=count)
    torch.testing.assert_close(picked, select_entries(found, entries), rtol=1e-9, atol=1e-11)
    diagonal = RegionFisher(wanted, {0: 1, 1: 1})
    visit_gradients(ours, data, weight, wanted, diagonal.visitor([0, 1]), exclusive, heads=count)
    for name, values in mean_of_squares(samples).items():
        torch.testing.assert_close(diagonal.mean()[name], values, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("layers", LAYERS)
def test_the_head_of_full_resolution_alone_is_as_before(layers: str) -> None:
    data, weight = batch(2, torch.float32)
    stock, deep = unet(stages=4), unet(stages=4, deep=True)
    for name, gradient in weight_gradients(stock, data, weight, LAYERS[layers](stock), heads=1).items():
        torch.testing.assert_close(gradient, weight_gradients(deep, data, weight, LAYERS[layers](deep))[name])


def test_nothing_is_differentiated_before_the_decoder_nor_by_its_skips() -> None:
    class Calls(TorchDispatchMode):
        channels: list[int] = []  # noqa: RUF012

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "convolution_backward" in str(func):
                self.channels.append(args[1].shape[1])
            return func(*args, **(kwargs or {}))

    made = unet(stages=4)
    seen: list[bool] = []
    made.encoder.stages[-1].register_forward_hook(lambda _m, _a, out: seen.append(out.requires_grad))
    data, weight = batch(2, torch.float32)
    with Calls() as calls:
        weight_gradients(made, data, weight, decoder_convolutions(made), heads=2)
    assert seen == [False]
    # two heads, three first convolutions with half of their inputs, and two transposed convolutions after the first
    assert sorted(calls.channels) == sorted([*(4, 6), *(4, 6, 8), *(8, 6)])


def test_the_network_is_left_as_it_was() -> None:
    for deep in (False, True):
        made = unet(stages=4, deep=deep)
        data, weight = batch(2, torch.float32)
        weight_gradients(made, data, weight, decoder_convolutions(made), heads=3)
        assert made.decoder.deep_supervision is deep
        assert not any("forward" in vars(module) for module in made.modules())


def test_number_of_heads() -> None:
    counts = {
        stages: {heads: number_of_heads(unet(stages=stages), heads, None) for heads in HEADS} for stages in (2, 3, 4)
    }
    assert counts[2] == {"full": 1, "trained": 1, "all": 1}, "nnU-Net's lowest head is trained if there is no other"
    assert counts[3] == {"full": 1, "trained": 1, "all": 2}
    assert counts[4] == {"full": 1, "trained": 2, "all": 3}
    assert number_of_heads(unet(stages=4), "trained", 1) == 1, "a trainer without deep supervision"
    assert number_of_heads(unet(stages=4), "trained", 3) == 3, "a trainer that weights all heads"
    assert {number_of_heads(nn.Sequential(nn.Conv2d(1, 1, 1)), heads, 2) for heads in HEADS} == {1}


@pytest.mark.parametrize("kind", ["plain", "residual", "residual decoder"])
def test_convolutions_of_the_decoder_are_transposed_ones_and_heads_too(kind: str) -> None:
    made = unet("plain" if kind == "plain" else "residual")
    if kind == "residual decoder":
        made.decoder = UNetResDecoder(made.encoder, 3, 1, deep_supervision=False)
    found, every = decoder_convolutions(made), convolutions(made)
    assert list(found) == [name for name in every if name.startswith("decoder.")]
    assert {name.split(".")[1] for name in found} == {"stages", "transpconvs", "seg_layers"}


def test_a_network_without_decoder_is_refused() -> None:
    with pytest.raises(ModelError, match="has no decoder with convolutions: use -set layers=all"):
        decoder_convolutions(nn.Sequential(nn.Conv2d(1, 1, 1)))
