from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from dynamic_network_architectures.building_blocks.unet_residual_decoder import UNetResDecoder
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from nnunet_al.errors import ModelError
from nnunet_al.scoring.dropout import draw_masks, insert_dropout, sub_network
from nnunet_al.scoring.gradients import (
    Objective,
    gradient_entries,
    log_likelihood,
    select_entries,
    sketched_gradients,
    visit_gradients,
    weight_gradients,
)
from nnunet_al.scoring.layers import bottleneck_convolution, convolutions, decoder_convolution
from nnunet_al.scoring.segmentation_loss import self_loss
from nnunet_al.scoring.sketch import CountSketch
from nnunet_al.scoring.tensors import full_resolution

from .networks import SPATIAL, images, unet


class Odd(nn.Module):
    """What nnU-Net does not build: strides, dilations and paddings of all sorts, a layer used twice, no norm."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        conv, up = {2: (nn.Conv2d, nn.ConvTranspose2d), 3: (nn.Conv3d, nn.ConvTranspose3d)}[dims]
        self.first = conv(2, 4, (3, 1, 5)[:dims], stride=(2, 1, 3)[:dims], padding=(1, 0, 2)[:dims])
        self.twice = conv(4, 4, 3, padding=2, dilation=2)
        self.up = up(
            4, 3, (3, 2, 4)[:dims], stride=(2, 1, 3)[:dims], padding=(1, 0, 1)[:dims], output_padding=(1, 0, 1)[:dims]
        )
        self.dilated_up = up(3, 3, 2, dilation=2, padding=1)
        self.head = conv(3, 3, 1)
        self.unused = conv(2, 2, 3)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.first(x))
        x = self.twice(self.twice(x))
        return self.head(self.dilated_up(self.up(x)))


def _reference(
    network: nn.Module, data: torch.Tensor, weight: torch.Tensor, exclusive: bool, objective: Objective = log_likelihood
) -> dict[str, torch.Tensor]:
    """Gradients of each sample by torch's own transforms."""
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}

    def single(values: dict[str, torch.Tensor], x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        logits = full_resolution(functional_call(network, values, (x[None],)))
        return objective(logits, w[None], exclusive)[0]

    gradients = vmap(grad(single), in_dims=(None, 0, 0))(parameters, data, weight)
    return {name.removesuffix(".weight"): gradient for name, gradient in gradients.items()}


def _weights(data: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """1 / |V_r| on a part of each window that differs between the samples."""
    generator = torch.Generator().manual_seed(5)
    mask = torch.rand(len(data), *output.shape[2:], generator=generator) > 0.3
    return mask.to(data.dtype) / mask.flatten(1).sum(1).reshape(-1, *[1] * (data.ndim - 2))


def _network(kind: str, dims: int, deep: bool = False) -> nn.Module:
    network = Odd(dims) if kind == "odd" else unet(kind, dims, deep=deep)
    return network.double().eval()


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["plain", "residual", "odd"])
def test_equal_to_torchs_gradients_per_sample(kind: str, dims: int, exclusive: bool) -> None:
    network = _network(kind, dims)
    data = images(3, dims, dtype=torch.float64)
    with torch.no_grad():
        weight = _weights(data, network(data))
    layers = convolutions(network)
    ours = weight_gradients(network, data, weight, layers, exclusive)
    theirs = _reference(network, data, weight, exclusive)
    assert list(ours) == list(layers)
    used = 0
    for name, gradient in ours.items():
        assert gradient.shape == (3, *layers[name].weight.shape)
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-10, atol=1e-10)
        used += bool(gradient.abs().max() > 1e-6)
    assert used == len(layers) - 1  # a head of deep supervision, or `unused`


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["plain", "residual", "odd"])
def test_gradients_of_the_own_loss_equal_torchs_per_sample(kind: str, dims: int, exclusive: bool) -> None:
    network = _network(kind, dims)
    data = images(3, dims, dtype=torch.float64)
    with torch.no_grad():
        weight = _weights(data, network(data))
    weight[1] = 0
    layers = convolutions(network) if kind == "odd" else decoder_convolution(network)
    ours = weight_gradients(network, data, weight, layers, exclusive, self_loss)
    theirs = _reference(network, data, weight, exclusive, self_loss)
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-9, atol=1e-10)
        assert gradient[1].count_nonzero() == 0
        assert name == "unused" or gradient[0].abs().max() > 1e-6
    entries = {name: np.arange(0, layer.weight.numel(), 2) for name, layer in layers.items()}
    picked = gradient_entries(network, data, weight, entries, exclusive, self_loss)
    torch.testing.assert_close(picked, select_entries(ours, entries), rtol=1e-10, atol=1e-10)


def test_heads_of_deep_supervision_have_zero_gradient() -> None:
    data = images(2, dtype=torch.float64)
    deep, stock = _network("plain", 2, deep=True), _network("plain", 2)
    weight = torch.full((2, *SPATIAL[2]), 1 / 256, dtype=torch.float64)
    first, second = (weight_gradients(net, data, weight, convolutions(net)) for net in (deep, stock))
    assert first["decoder.seg_layers.0"].count_nonzero() == 0
    assert first["decoder.seg_layers.1"].count_nonzero() > 0
    for name in first:
        torch.testing.assert_close(first[name], second[name])


def test_nothing_is_left_behind() -> None:
    network = unet().train()
    network.encoder.stages[0].requires_grad_(False)
    flags = [parameter.requires_grad for parameter in network.parameters()]
    weight_gradients(network, images(2), torch.ones(2, *SPATIAL[2]), convolutions(network))
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [parameter.requires_grad for parameter in network.parameters()] == flags
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_works_where_gradients_are_off_and_with_dropout_inside() -> None:
    network, data = unet(), images(2)
    weight = torch.ones(2, *SPATIAL[2]) / 256
    layers = convolutions(network)
    expected = weight_gradients(network, data, weight, layers)
    insert_dropout(network, 0.5, "all")
    network.train()
    with torch.no_grad():
        again = weight_gradients(network, data, weight, layers)
        masks = draw_masks(network, data[:1], 1, np.random.default_rng(0))
        with sub_network(network, masks, 0):
            other = weight_gradients(network, data, weight, layers)
    (name,) = bottleneck_convolution(network)
    assert all(torch.equal(expected[key], again[key]) for key in layers)
    assert not torch.allclose(expected[name], other[name])


def test_depth_is_only_what_is_needed() -> None:
    network, data = unet(), images(2)
    weight = torch.ones(2, *SPATIAL[2]) / 256
    seen: list[bool] = []
    network.encoder.stages[1].register_forward_hook(lambda _m, _a, out: seen.append(out.requires_grad))
    wanted = bottleneck_convolution(network)
    alone = weight_gradients(network, data, weight, wanted)
    assert seen == [False]
    every = weight_gradients(network, data, weight, convolutions(network))
    (name,) = wanted
    torch.testing.assert_close(alone[name], every[name])


def test_nothing_is_differentiated_by_the_input_of_the_shallowest_layer() -> None:
    class Calls(TorchDispatchMode):
        backward = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.backward += "convolution_backward" in str(func)
            return func(*args, **(kwargs or {}))

    network = nn.Sequential(*[nn.Conv2d(2, 2, 1) for _ in range(4)])
    for depth in range(4):
        with Calls() as calls:
            weight_gradients(network, images(1), torch.ones(1, *SPATIAL[2]), {str(depth): network[depth]})
        assert calls.backward == 3 - depth


def test_the_decoder_records_nothing_before_its_last_convolution() -> None:
    network, data = unet(), images(2)
    weight = torch.ones(2, *SPATIAL[2]) / 256
    seen: dict[str, bool] = {}
    network.decoder.transpconvs[-1].register_forward_hook(lambda _m, _a, out: seen.update(up=out.requires_grad))
    network.decoder.seg_layers[-1].register_forward_hook(lambda _m, _a, out: seen.update(head=out.requires_grad))
    weight_gradients(network, data, weight, decoder_convolution(network), objective=self_loss)
    assert seen == {"up": False, "head": True}


def test_samples_do_not_see_each_other_and_weightless_ones_are_zero() -> None:
    network, data = _network("plain", 3), images(4, 3, dtype=torch.float64)
    weight = torch.full((4, *SPATIAL[3]), 1 / 512, dtype=torch.float64)
    weight[2] = 0
    whole = weight_gradients(network, data, weight, convolutions(network))
    single = weight_gradients(network, data[1:2], weight[1:2], convolutions(network))
    for name in whole:
        torch.testing.assert_close(whole[name][1:2], single[name])
        assert whole[name][2].count_nonzero() == 0


def test_gradient_of_a_region_is_the_sum_over_its_windows() -> None:
    network, data = _network("plain", 2), images(1, dtype=torch.float64)
    mask = torch.zeros(1, *SPATIAL[2], dtype=torch.float64)
    mask[:, :, :5] = 1.0
    layers = bottleneck_convolution(network)
    (whole,) = weight_gradients(network, data, torch.ones_like(mask) / 256, layers).values()
    (left,) = weight_gradients(network, data, mask / 256, layers).values()
    (right,) = weight_gradients(network, data, (1 - mask) / 256, layers).values()
    torch.testing.assert_close(left + right, whole)


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_convolutions_count_once_and_hold_the_bottleneck(kind: str) -> None:
    network = unet(kind)
    layers = convolutions(network)
    expected = {id(m) for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))}
    assert {id(layer) for layer in layers.values()} == expected
    assert len(layers) == len(expected)
    assert list(layers) == sorted(layers)
    ((name, module),) = bottleneck_convolution(network).items()
    assert layers[name] is module
    last = network.encoder.stages[-1][-1] if kind == "plain" else network.encoder.stages[-1]
    assert module is (last.convs[-1].conv if kind == "plain" else last.blocks[-1].conv2.conv)


@pytest.mark.parametrize("kind", ["plain", "residual", "residual decoder"])
def test_decoder_convolution_is_the_last_one_before_the_head(kind: str) -> None:
    network = unet("plain" if kind == "plain" else "residual")
    if kind == "residual decoder":
        # its stages hold projections, nnU-Net's other networks have plain convolutions there
        network.decoder = UNetResDecoder(network.encoder, 3, 1, deep_supervision=False)
    order: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(lambda layer, _args, _out: order.append(layer))
    network(images(1))
    ((name, module),) = decoder_convolution(network).items()
    assert convolutions(network)[name] is module
    assert order[-1] is network.decoder.seg_layers[-1]
    assert module is order[-2]
    assert module.weight.shape == (4, 4 if kind == "residual decoder" else 8, 3, 3)


def test_a_transposed_convolution_is_not_the_decoders_last() -> None:
    network = unet()
    wanted = nn.Conv2d(8, 4, 3)
    network.decoder.stages[-1] = nn.Sequential(wanted, nn.ReLU(), nn.ConvTranspose2d(4, 4, 2))
    assert list(decoder_convolution(network).values()) == [wanted]


def test_entries_are_picked_in_order() -> None:
    network, data = unet(), images(2)
    weight = torch.ones(2, *SPATIAL[2]) / 256
    layers = convolutions(network)
    gradients = weight_gradients(network, data, weight, layers)
    rng = np.random.default_rng(0)
    entries = {name: np.sort(rng.choice(layer.weight.numel(), 3, replace=False)) for name, layer in layers.items()}
    entries[next(iter(layers))] = np.array([], dtype=np.int64)
    picked = select_entries(gradients, entries)
    assert picked.shape == (2, 3 * (len(layers) - 1))
    by_hand = [gradients[name][1].flatten()[index].item() for name, part in entries.items() for index in part]
    assert picked[1].tolist() == by_hand
    assert _deviation(gradient_entries(network, data, weight, entries), picked) < 1e-5
    mixed = {name: rng.integers(0, layer.weight.numel(), 7) for name, layer in layers.items()}
    assert _deviation(gradient_entries(network, data, weight, mixed), select_entries(gradients, mixed)) < 1e-5


def _deviation(found_B_d: torch.Tensor, expected_B_d: torch.Tensor) -> float:
    """The largest error of a vector relative to its size."""
    return float(((found_B_d - expected_B_d).norm(dim=1) / expected_B_d.norm(dim=1)).max())


def test_entries_of_wide_layers_equal_torchs_gradients_per_sample() -> None:
    # wide enough that blocks of the gradient are cheaper than whole parts in some layers and not in others
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 32, 3, padding=1), nn.InstanceNorm2d(32), nn.LeakyReLU(inplace=True)),
        nn.Sequential(nn.Conv2d(32, 128, 3, stride=2, padding=1), nn.InstanceNorm2d(128), nn.LeakyReLU(inplace=True)),
        nn.Sequential(nn.Conv2d(128, 128, 3, padding=1), nn.InstanceNorm2d(128), nn.LeakyReLU(inplace=True)),
        nn.Sequential(nn.ConvTranspose2d(128, 32, 2, stride=2), nn.Conv2d(32, 3, 1)),
    )
    data, weight = images(3), torch.ones(3, *SPATIAL[2]) / 256
    layers, rng = convolutions(network), np.random.default_rng(0)
    entries = {name: rng.integers(0, layer.weight.numel(), 60) for name, layer in layers.items()}
    expected = select_entries(_reference(network, data, weight, True), entries)
    assert _deviation(gradient_entries(network, data, weight, entries), expected) < 1e-5


@pytest.mark.parametrize("dims", [2, 3])
def test_sketched_gradients_are_the_sketch_of_all_layers_gradients(dims: int) -> None:
    network = _network("odd", dims)  # a layer that is used twice, one that is not used, transposed ones
    data = images(3, dims, dtype=torch.float64)
    with torch.no_grad():
        weight = _weights(data, network(data))
    layers = convolutions(network)
    gradients = weight_gradients(network, data, weight, layers, True, self_loss)
    flat = torch.cat([gradient.flatten(1) for gradient in gradients.values()], 1)
    for size in (17, flat.shape[1]):
        sketch = CountSketch(flat.shape[1], size, np.random.default_rng(0))
        ours = sketched_gradients(network, data, weight, layers, sketch, True, self_loss)
        assert ours.shape == (3, size)
        torch.testing.assert_close(ours, sketch(flat))
    assert torch.equal(ours, flat)


class _Largest(TorchDispatchMode):
    """Notes the largest tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


@pytest.mark.parametrize("used", [True, False])
def test_no_gradient_of_a_whole_layer_is_held(used: bool) -> None:
    network = nn.Sequential(nn.Conv3d(2, 32, 1), nn.Conv3d(32, 32, 3, padding=1), nn.Conv3d(32, 2, 1))
    if not used:
        network.forward = lambda x: network[0](x)[:, :2]
    layers = {"1": network[1]}
    weights = network[1].weight.numel()
    data, mask = images(4, 3)[..., :2, :2, :2], torch.ones(4, 2, 2, 2) / 8
    sketch = CountSketch(weights, 100, np.random.default_rng(0))
    sketched_gradients(network, data, mask, layers, sketch)  # prepares what belongs to the layer once
    with _Largest() as whole:
        weight_gradients(network, data, mask, layers)
    with _Largest() as entries:
        gradient_entries(network, data, mask, {"1": np.arange(0, weights, 30)})
    with _Largest() as sketched:
        sketched_gradients(network, data, mask, layers, sketch)
    visited = _Largest()
    with visited:
        visit_gradients(network, data, mask, layers, lambda _name, parts: [part.sum() for part in parts])
    assert whole.numel >= 4 * weights
    assert visited.numel < weights
    assert entries.numel < weights
    assert sketched.numel < weights


def test_log_likelihood_known_answers() -> None:
    logits = torch.tensor([[[0.0, math.log(3.0)], [0.0, 0.0]]])  # one sample, two classes, two voxels
    weight = torch.tensor([[0.5, 0.5]])
    assert log_likelihood(logits, weight).item() == pytest.approx(0.5 * (math.log(0.5) + math.log(0.75)))
    heads = log_likelihood(-logits, weight, exclusive=False).item()
    assert heads == pytest.approx(0.5 * (3 * math.log(0.5) + math.log(0.75)))
    assert log_likelihood(logits.half(), weight).dtype == torch.float32


@pytest.mark.parametrize("exclusive", [True, False])
def test_log_likelihood_is_torchs_negative_loss_against_the_own_decision(exclusive: bool) -> None:
    logits = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.ones(3, 5, 6, dtype=torch.float64)
    if exclusive:
        loss = F.cross_entropy(logits, logits.argmax(1), reduction="none")
    else:
        loss = F.binary_cross_entropy_with_logits(logits, (logits > 0).double(), reduction="none").sum(1)
    torch.testing.assert_close(log_likelihood(logits, weight, exclusive), -loss.sum((1, 2)))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, padding=1, groups=2),
        nn.Conv2d(2, 2, 3, padding="same"),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
    ],
)
def test_unsupported_layers_are_refused(layer: nn.Module) -> None:
    network = nn.Sequential(layer)
    with pytest.raises(ModelError, match="Layer 0 has groups or a padding"):
        weight_gradients(network, images(1), torch.ones(1, *SPATIAL[2]), convolutions(network))


def test_overwritten_input_is_refused() -> None:
    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x * 1.0
            y = self.conv(x)
            x += 1.0
            return y

    network = Overwriting()
    with pytest.raises(ModelError, match="conv is overwritten"):
        weight_gradients(network, images(1), torch.ones(1, *SPATIAL[2]), convolutions(network))


def test_network_without_encoder_or_decoder_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no convolution in encoder\.stages"):
        bottleneck_convolution(nn.Sequential(nn.Conv2d(1, 1, 1)))
    with pytest.raises(ModelError, match=r"no convolution in decoder\.stages"):
        decoder_convolution(nn.Sequential(nn.Conv2d(1, 1, 1)))
    network = unet()
    network.decoder.stages = nn.ModuleList()
    with pytest.raises(ModelError, match=r"no convolution in decoder\.stages"):
        decoder_convolution(network)
