"""Per-sample weight gradients, from one forward and one backward pass over a batch.

The samples of a batch must not influence each other: instance, group and layer norm are allowed, batch norm is in
evaluation mode here. Then the output gradient of a convolution splits by sample, and a sample's weight gradient is the
correlation of the layer's input with its part (Goodfellow 2015, arXiv:1510.01799, for linear layers; the same holds for
convolutions), so no pass is repeated per sample.

A large layer has 512 · 512 · 27 weights, 28 MB for each sample. Where only entries, a sketch or sums of the gradient
are needed, one offset of the kernel is held at a time, 1 MB for each sample (see ``correlation``). For entries, only
the channels that they belong to are computed (see ``entries``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import nn

from nnunet_al.scoring.backward import Objective, summaries_of_gradients
from nnunet_al.scoring.correlation import LayerGradient, kernel_offsets, summed_parts, whole_gradient
from nnunet_al.scoring.entries import layer_entries
from nnunet_al.scoring.layers import convolutions
from nnunet_al.scoring.sketch import CountSketch
from nnunet_al.scoring.tensors import at_least_float32

Visit = Callable[[str, Iterator[torch.Tensor]], None]
"""Takes a layer's name and an iterator over the parts of its gradient, each computed when it is requested."""


def log_likelihood(logits_B_C_xyz: torch.Tensor, weight_B_xyz: torch.Tensor, exclusive: bool = True) -> torch.Tensor:
    """L_b = Σ_v weight_v · ln p(ŷ_v | v), in nats times the weights' unit (USIM, appendix A).

    ŷ is the network's own decision and a constant for the gradient: argmax of exclusive classes; p > 0.5 for each head
    otherwise, where ln p is the sum over the heads' Bernoulli variables. With 1 / |V_r| on the voxels of a region and 0
    elsewhere, L is the mean over the region.

    Returns
    -------
    torch.Tensor
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
    heads: int = 1,
) -> dict[str, torch.Tensor]:
    """Return ∂L_b/∂weight of each layer and sample, from one pass; dropout off, autocast off, ``.grad`` untouched.

    Parameters
    ----------
    network
        uncompiled; its first output has full resolution, and ``decoder.deep_supervision`` makes it return all. A
        sample's result must not depend on the other samples of the batch (see the module's docstring).
    data_B_C_xyz
        B windows.
    weight_B_xyz
        the voxels' weights in L, see `objective`; a sample without weight has gradient 0.
    layers
        convolutions of the network by name, see `layers.convolutions`.
    exclusive
        softmax classes, or sigmoid heads.
    objective
        L; `log_likelihood` (USIM), or `segmentation_loss.self_loss` (BADGE).
    heads
        number of the network's outputs, from full resolution down, that L is summed over, each with the decision of its
        own and the weights shared out over its voxels by area (`features.share_by_area`).

    Returns
    -------
    dict of torch.Tensor
        for each layer, in the order of `layers`, (B, \\*weight.shape); zeros where the output does not depend on the
        layer (heads of deep supervision).

    Raises ModelError if a layer has groups, a padding other than zeros, or its input is overwritten.
    """

    def whole(name: str, uses: list[LayerGradient]) -> torch.Tensor:
        return whole_gradient(layers[name], summed_parts(layers[name], uses, len(data_B_C_xyz)))

    return summaries_of_gradients(network, data_B_C_xyz, weight_B_xyz, layers, exclusive, objective, whole, heads)


def visit_gradients(
    network: nn.Module,
    data_B_C_xyz: torch.Tensor,
    weight_B_xyz: torch.Tensor,
    layers: Mapping[str, nn.Module],
    visit: Visit,
    exclusive: bool = True,
    objective: Objective = log_likelihood,
    heads: int = 1,
) -> None:
    """Call ``visit(name, parts)`` once for each layer, with its gradient in parts; else as `weight_gradients`.

    Part k, (B, P, I), holds the entries ``[..., k]`` of the gradient (B, P, I, K), its kernel flattened.
    """

    def pass_on(name: str, uses: list[LayerGradient]) -> None:
        visit(name, summed_parts(layers[name], uses, len(data_B_C_xyz)))

    summaries_of_gradients(network, data_B_C_xyz, weight_B_xyz, layers, exclusive, objective, pass_on, heads)


def gradient_entries(
    network: nn.Module,
    data_B_C_xyz: torch.Tensor,
    weight_B_xyz: torch.Tensor,
    entries: Mapping[str, npt.NDArray[np.int64]],
    exclusive: bool = True,
    objective: Objective = log_likelihood,
    heads: int = 1,
) -> torch.Tensor:
    """Return `select_entries` of `weight_gradients`, (B, d), up to rounding, without computing whole gradients.

    `entries` maps layer names to flat indices, at least one in total; layers without indices cost nothing, and the
    backward pass ends at the shallowest layer with indices.

    Raises ModelError as `weight_gradients`.
    """
    every = convolutions(network)
    layers = {name: every[name] for name, indices in entries.items() if len(indices)}

    def pick(name: str, uses: list[LayerGradient]) -> torch.Tensor:
        return layer_entries(layers[name], uses, entries[name], data_B_C_xyz)

    picked = summaries_of_gradients(network, data_B_C_xyz, weight_B_xyz, layers, exclusive, objective, pick, heads)
    return torch.cat(list(picked.values()), dim=1)


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

    `sketch` is applied to the layers' flattened weights concatenated in the order of `layers`; `sketch.size_in` is
    their total number. Sketches are linear: the sum over a region's windows is the region's sketch.

    Raises ModelError as `weight_gradients`.
    """
    sizes = [layer.weight.numel() for layer in layers.values()]
    assert sketch.size_in == sum(sizes), (sketch.size_in, sizes)
    ends = dict(zip(layers, accumulate(sizes), strict=True))

    total_B_d = torch.zeros(len(data_B_C_xyz), sketch.size, dtype=data_B_C_xyz.dtype, device=data_B_C_xyz.device)

    def add(name: str, parts: Iterator[torch.Tensor]) -> None:
        first, step = ends[name] - layers[name].weight.numel(), kernel_offsets(layers[name])
        for k, part_B_P_I in enumerate(parts):
            total_B_d.add_(sketch.part(part_B_P_I.flatten(1), slice(first + k, ends[name], step)))

    visit_gradients(network, data_B_C_xyz, weight_B_xyz, layers, add, exclusive, objective)
    return total_B_d


def select_entries(gradients: Mapping[str, torch.Tensor], entries: Mapping[str, npt.NDArray[np.int64]]) -> torch.Tensor:
    """Return (B, d): the entries of each layer's flattened weight, layers in the order of `entries`."""
    return torch.cat([_pick(gradients[name], indices) for name, indices in entries.items()], dim=1)


def _pick(gradient: torch.Tensor, indices: npt.NDArray[np.int64]) -> torch.Tensor:
    return gradient.flatten(1)[:, torch.as_tensor(indices, dtype=torch.long, device=gradient.device)]
