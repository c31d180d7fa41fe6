"""The weight gradient of one convolution for each sample: its input correlated with the gradient of its output.

It comes in parts, one for each offset k of the kernel: part k, (B, P, I), holds the weight's entries [p, i, k]. Whoever
needs the gradient only to pick from it or to sum it up never holds more than one part. Parts are cut along the kernel
and not along the batch, because a matrix product over fewer samples may be rounded in another way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import product

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import nn

from nnunet_al.errors import ModelError

TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, *TRANSPOSED)


def kernel_offsets(layer: nn.Module) -> int:
    """Return K, the number of offsets of the kernel, which are the innermost axis of the flattened weight."""
    return math.prod(layer.kernel_size)


def gradient_parts(
    layer: nn.Module, input_B_I_xyz: torch.Tensor, output_gradient_B_O_xyz: torch.Tensor
) -> Iterator[torch.Tensor]:
    """Yield ∂L_b/∂weight of a 2d or 3d (transposed) convolution with any stride and dilation, offset by offset.

    For a kernel offset k, ∂L/∂w[o, i, k] = Σ_x g[o, x] · a[i, stride · x + dilation · k - padding], a the input and
    g the output's gradient: one batched matrix product for each k. A transposed convolution swaps a and g.

    Yields:
        For k = 0, ..., K - 1 a tensor (B, weight.shape[0], weight.shape[1]), contiguous.
    """
    if isinstance(layer, TRANSPOSED):
        fine, coarse = output_gradient_B_O_xyz, input_B_I_xyz
    else:
        fine, coarse = input_B_I_xyz, output_gradient_B_O_xyz
    padding = [width for axis in reversed(layer.padding) for width in (axis, axis)]
    fine = F.pad(fine, padding) if any(padding) else fine
    sizes, coarse_B_P_X = coarse.shape[2:], coarse.flatten(2)
    for offset in product(*map(range, layer.kernel_size)):
        view = tuple(
            slice(o * d, o * d + s * (n - 1) + 1, s)
            for o, d, s, n in zip(offset, layer.dilation, layer.stride, sizes, strict=True)
        )
        yield torch.bmm(coarse_B_P_X, fine[(..., *view)].flatten(2).transpose(1, 2))


def zero_parts(layer: nn.Module, batch: int) -> Iterator[torch.Tensor]:
    """Yield the parts of `batch` samples whose output does not depend on the layer."""
    for _ in range(kernel_offsets(layer)):
        yield layer.weight.new_zeros(1, 1, 1).expand(batch, *layer.weight.shape[:2])


def whole_gradient(layer: nn.Module, parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the gradient (B, \\*weight.shape) that the parts make up."""
    result: torch.Tensor | None = None
    for k, part_B_P_I in enumerate(parts):
        if result is None:  # filled in place: a list of the parts would need the memory twice
            result = part_B_P_I.new_empty(*part_B_P_I.shape, kernel_offsets(layer))
        result[..., k] = part_B_P_I
    assert result is not None
    return result.unflatten(-1, layer.kernel_size)


def refuse_unsupported(name: str, layer: nn.Module) -> None:
    """Raise ModelError for a layer that `gradient_parts` does not cover: groups, or padding that is not zeros."""
    if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ModelError(
            f"Layer {name} has groups or a padding other than a number of zeros, which has no gradient of each region: "
            "choose a strategy that needs no gradients or another network."
        )
