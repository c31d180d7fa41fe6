"""Weight gradients of each region on its own, from one forward and one backward pass over a batch.

The samples of a batch must not see each other: instance, group and layer norm are fine, batch norm is in evaluation
mode here. Then the output gradient at a convolution holds each sample's share, and the sample's weight gradient is the
correlation of the layer's input with it (Goodfellow 2015, arXiv:1510.01799, for linear layers; the same for
convolutions), so nothing has to be repeated for each sample.

A large layer has 512 · 512 · 27 weights, 28 MB for each sample. Where only entries or a sketch of the gradient are
wanted, one offset of the kernel is held at a time, 1 MB for each sample (see ``correlation``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import nn

from nnunet_al.errors import ModelError
from nnunet_al.scoring.correlation import (
    gradient_parts,
    kernel_offsets,
    refuse_unsupported,
    whole_gradient,
    zero_parts,
)
from nnunet_al.scoring.dropout import evaluating
from nnunet_al.scoring.layers import convolutions
from nnunet_al.scoring.sketch import CountSketch
from nnunet_al.scoring.tensors import at_least_float32, full_resolution

Objective = Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]
"""From logits_B_C_xyz, weight_B_xyz and ``exclusive`` to L_B, where L_b depends on sample b alone."""


def log_likelihood(logits_B_C_xyz: torch.Tensor, weight_B_xyz: torch.Tensor, exclusive: bool = True) -> torch.Tensor:
    """L_b = Σ_v weight_v · ln p(ŷ_v | v), in nats times the weights' unit (USIM, appendix A).

    ŷ is the network's own decision and a constant for the gradient: argmax of exclusive classes; p > 0.5 for each
    head otherwise, where ln p is the sum over the heads' Bernoulli variables. With 1 / |V_r| on the voxels of a
    region and 0 elsewhere, L is the mean over the region.

    Returns:
        L_B, in the precision of the logits, at least float32.
    """
    logits = at_least_float32(logits_B_C_xyz)
    if exclusive:
        decision_B_1_xyz = logits.detach().argmax(1, keepdim=True)
        voxels_B_xyz = F.log_softmax(logits, 1).gather(1, decision_B_1_xyz).squeeze(1)
    else:
        sign = torch.where(logits.detach() > 0, 1.0, -1.0).to(logits.dtype)
        voxels_B_xyz = F.logsigmoid(logits * sign).sum(1)
    return (voxels_B_xyz * weight_B_xyz).flatten(1).sum(1)


def weight_gradients(
    network: nn.Module,
    data_B_C_xyz: torch.Tensor,
    weight_B_xyz: torch.Tensor,
    layers: Mapping[str, nn.Module],
    exclusive: bool = True,
    objective: Objective = log_likelihood,
) -> dict[str, torch.Tensor]:
    """Return ∂L_b/∂weight of each layer and sample, from one pass; dropout off, autocast off, ``.grad`` untouched.

    Args:
        network: uncompiled; its first output is the one of full resolution. A sample's result must not depend on the
            other samples of the batch (see the module's head).
        data_B_C_xyz: B windows.
        weight_B_xyz: the voxels' weights in L, see `objective`; a sample without weight has gradient 0.
        layers: convolutions of the network by name, see `layers.convolutions`.
        exclusive: softmax classes, or sigmoid heads.
        objective: L; `log_likelihood` (USIM), or `segmentation_loss.self_loss` (BADGE).

    Returns:
        For each layer, in the order of `layers`, a tensor (B, \\*weight.shape); zeros where the output does not
        depend on the layer (heads of deep supervision).

    Raises:
        ModelError: a layer has groups, a padding other than zeros, or its input is overwritten.
    """

    def whole(name: str, parts: Iterable[torch.Tensor]) -> torch.Tensor:
        return whole_gradient(layers[name], parts)

    return _gradients(network, data_B_C_xyz, weight_B_xyz, layers, exclusive, objective, whole)


def gradient_entries(
    network: nn.Module,
    data_B_C_xyz: torch.Tensor,
    weight_B_xyz: torch.Tensor,
    entries: Mapping[str, npt.NDArray[np.int64]],
    exclusive: bool = True,
    objective: Objective = log_likelihood,
) -> torch.Tensor:
    """Return `select_entries` of `weight_gradients`, (B, d), to the bit, holding one kernel offset at a time.

    `entries` holds flat indices for each layer's name and at least one index; layers without any cost nothing.
    """
    every = convolutions(network)
    layers = {name: every[name] for name, indices in entries.items() if len(indices)}

    def pick(name: str, parts: Iterable[torch.Tensor]) -> torch.Tensor:
        # sorted by kernel offset, the innermost axis of the weight, and brought back into the given order
        positions, offsets = np.divmod(entries[name], kernel_offsets(layers[name]))
        order = np.argsort(offsets, kind="stable")
        counts = np.bincount(offsets, minlength=kernel_offsets(layers[name])).tolist()
        columns = _indices(positions[order], data_B_C_xyz.device).split(counts)
        picked = [part.flatten(1)[:, some] for part, some in zip(parts, columns, strict=True)]
        return torch.cat(picked, 1)[:, _indices(np.argsort(order), data_B_C_xyz.device)]

    gradients = _gradients(network, data_B_C_xyz, weight_B_xyz, layers, exclusive, objective, pick)
    return torch.cat(list(gradients.values()), dim=1)


def sketched_gradients(
    network: nn.Module,
    data_B_C_xyz: torch.Tensor,
    weight_B_xyz: torch.Tensor,
    layers: Mapping[str, nn.Module],
    sketch: CountSketch,
    exclusive: bool = True,
    objective: Objective = log_likelihood,
) -> torch.Tensor:
    """Return the sketch (B, sketch.size) of `weight_gradients`, holding one kernel offset of a layer at a time.

    `sketch` takes the layers' flattened weights one after the other, in the order of `layers`; `sketch.size_in` is the
    number of all their weights. Sketches are linear: those of a region's windows add up to the region's.

    Raises:
        ModelError: as `weight_gradients`.
    """
    sizes = [layer.weight.numel() for layer in layers.values()]
    assert sketch.size_in == sum(sizes), (sketch.size_in, sizes)
    ends = dict(zip(layers, accumulate(sizes), strict=True))

    def summarise(name: str, parts: Iterable[torch.Tensor]) -> torch.Tensor:
        first, step = ends[name] - layers[name].weight.numel(), kernel_offsets(layers[name])
        total = data_B_C_xyz.new_zeros(())
        for k, part_B_P_I in enumerate(parts):
            total = total + sketch.part(part_B_P_I.flatten(1), slice(first + k, ends[name], step))
        return total

    gradients = _gradients(network, data_B_C_xyz, weight_B_xyz, layers, exclusive, objective, summarise)
    return torch.stack(list(gradients.values())).sum(0)


def select_entries(gradients: Mapping[str, torch.Tensor], entries: Mapping[str, npt.NDArray[np.int64]]) -> torch.Tensor:
    """Return (B, d): the entries of each layer's flattened weight, layers in the order of `entries`."""
    return torch.cat([_pick(gradients[name], indices) for name, indices in entries.items()], dim=1)


def _pick(gradient: torch.Tensor, indices: npt.NDArray[np.int64]) -> torch.Tensor:
    return gradient.flatten(1)[:, _indices(indices, gradient.device)]


def _indices(indices: npt.NDArray[np.int64], device: torch.device) -> torch.Tensor:
    return torch.as_tensor(indices, dtype=torch.long, device=device)


def _gradients(
    network: nn.Module,
    data_B_C_xyz: torch.Tensor,
    weight_B_xyz: torch.Tensor,
    layers: Mapping[str, nn.Module],
    exclusive: bool,
    objective: Objective,
    reduce: Callable[[str, Iterable[torch.Tensor]], torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Return reduce(name, parts) of each layer's gradient; it is linear, because a layer may be used several times."""
    for name, layer in layers.items():
        refuse_unsupported(name, layer)
    found: dict[str, torch.Tensor] = {}
    starts: list[torch.Tensor] = []

    def begin(_layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        # The graph starts at the shallowest of the wanted layers: nothing upstream of it is recorded.
        if args[0].requires_grad:
            return None
        starts.append(args[0].detach().requires_grad_())
        return (starts[-1], *args[1:])

    def listen(name: str) -> Callable[[nn.Module, tuple[Any, ...], torch.Tensor], None]:
        def tap(layer: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> None:
            inputs, version = args[0].detach(), args[0]._version

            def receive(output_gradient: torch.Tensor) -> None:
                if inputs._version != version:
                    raise ModelError(f"The input of layer {name} is overwritten after use: its gradient is unknown.")
                part = reduce(name, gradient_parts(layer, inputs, output_gradient))
                found[name] = found[name] + part if name in found else part

            # A hook sees the gradient of the value as it is now, also where an in-place activation changes it later.
            output.register_hook(receive)

        return tap

    handles = [layer.register_forward_pre_hook(begin) for layer in layers.values()]
    handles += [layer.register_forward_hook(listen(name)) for name, layer in layers.items()]
    device = data_B_C_xyz.device.type
    try:
        with evaluating(network), _frozen(network), torch.enable_grad(), torch.autocast(device, enabled=False):
            logits = full_resolution(network(data_B_C_xyz.detach()))
            total = objective(logits, weight_B_xyz, exclusive).sum()
            if total.requires_grad:
                torch.autograd.grad(total, starts, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    for name, layer in layers.items():
        if name not in found:
            found[name] = reduce(name, zero_parts(layer, len(data_B_C_xyz)))
    return {name: found[name] for name in layers}


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Let no parameter ask for a gradient: the batch's sums of them would be computed for nothing."""
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
