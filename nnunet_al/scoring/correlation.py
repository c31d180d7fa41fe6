"""The weight gradient of one convolution for each sample: its input correlated with the gradient of its output.

It comes in parts, one for each offset k of the kernel: part k, (B, P, I), holds the weight's entries [p, i, k]. Whoever
needs the gradient only to pick from it or to sum it up never holds more than one part. Parts are cut along the kernel
and not along the batch, because a matrix product over fewer samples may be rounded in another way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import product

import torch
from torch import nn

from nnunet_al.errors import ModelError
from nnunet_al.scoring.sample_products import aligned, empty_samples, padded, sample_products

TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, *TRANSPOSED)
COPY = 48
"""How many multiplications cost as much as copying one number: measured on a CPU, and the same everywhere, so that it
depends on shapes and counts alone which way is taken (the ways differ in the last digits)."""


def kernel_offsets(layer: nn.Module) -> int:
    """Return K, the number of offsets of the kernel, which are the innermost axis of the flattened weight."""
    return math.prod(layer.kernel_size)


class LayerGradient:
    """∂L_b/∂weight of one use of a 2d or 3d (transposed) convolution with any stride and dilation, part by part.

    For a kernel offset k, ∂L/∂w[p, i, k] = Σ_x g[p, x] · a[i, stride · x + dilation · k - padding], a the input and
    g the output's gradient. A transposed convolution swaps a and g. Below, ``coarse`` is what stands in the place of g,
    (B, P, xyz), and ``fine`` what stands in the place of a, (B, I, xyz); X is the number of positions of ``coarse``.
    """

    def __init__(self, layer: nn.Module, input_B_I_xyz: torch.Tensor, output_gradient_B_O_xyz: torch.Tensor) -> None:
        """Keep what the parts are made of; nothing is computed yet."""
        both = (input_B_I_xyz, output_gradient_B_O_xyz)
        self._layer = layer
        self._fine, self._coarse = reversed(both) if isinstance(layer, TRANSPOSED) else both
        self._offsets = list(product(*map(range, layer.kernel_size)))

    def part(self, k: int) -> torch.Tensor:
        """Return part k, (B, P, I), contiguous: one batched matrix product."""
        layer, sizes, padded_B_I_xyz = self._layer, self._coarse.shape[2:], self._padded_B_I_xyz
        if self._slides:
            start = sum(o * d * step for o, d, step in zip(self._offsets[k], layer.dilation, self._steps, strict=True))
            coarse_B_P_L = self._widened_B_P_L
            fine_B_I_L = padded_B_I_xyz.flatten(2)[..., start : start + coarse_B_P_L.shape[2]]
            return sample_products(coarse_B_P_L, fine_B_I_L.transpose(1, 2))
        view = tuple(
            slice(o * d, o * d + s * (n - 1) + 1, s)
            for o, d, s, n in zip(self._offsets[k], layer.dilation, layer.stride, sizes, strict=True)
        )
        fine_B_I_X = aligned(padded_B_I_xyz[(..., *view)]).flatten(2)
        return sample_products(self._coarse_B_P_X, fine_B_I_X.transpose(1, 2))

    def block(self, k: int, rows: Sequence[int], columns: Sequence[int]) -> torch.Tensor:
        """Return ``part(k)[:, rows][:, :, columns]`` without the rest of the part; both strictly rising.

        Only the channels that are named are copied, and only the positions whose partner is no padding.
        """
        layer = self._layer
        axes = zip(
            self._coarse.shape[2:],
            self._fine.shape[2:],
            self._offsets[k],
            layer.dilation,
            layer.stride,
            layer.padding,
            strict=True,
        )
        inside = [_inside(*axis) for axis in axes]
        coarse = self._coarse[(..., *(first for first, _ in inside))]
        fine = self._fine[(..., *(second for _, second in inside))]
        return sample_products(_channels(coarse, rows), _channels(fine, columns).transpose(1, 2))

    @cached_property
    def _padded_B_I_xyz(self) -> torch.Tensor:
        return padded(self._fine, [(width, width) for width in self._layer.padding])

    @cached_property
    def _coarse_B_P_X(self) -> torch.Tensor:
        return aligned(self._coarse).flatten(2)

    @cached_property
    def _steps(self) -> list[int]:
        """How far apart neighbours along each axis are in ``_padded_B_I_xyz``."""
        sizes = self._padded_B_I_xyz.shape[2:]
        return [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]

    @cached_property
    def _length(self) -> int:
        """L, how far the last position of ``coarse`` lies from the first in ``_padded_B_I_xyz``, both included."""
        return 1 + sum((n - 1) * step for n, step in zip(self._coarse.shape[2:], self._steps, strict=True))

    @cached_property
    def _slides(self) -> bool:
        """Whether views take the place of a copy of ``fine`` for each offset, see `_widened_B_P_L`.

        The product is longer then, L instead of X: it pays where that costs less than the copy of X numbers.
        """
        positions = math.prod(self._coarse.shape[2:])
        unit_strides = all(stride == 1 for stride in self._layer.stride)
        return unit_strides and self._coarse.shape[1] * (self._length - positions) <= COPY * positions

    @cached_property
    def _widened_B_P_L(self) -> torch.Tensor:
        """``coarse`` with zeros between its rows, so that position x lies as far from the first as in padded ``fine``.

        Then each offset's partners are one stretch of the padded ``fine``: no copy is needed to bring them together.
        """
        sizes, wide = self._coarse.shape[2:], self._padded_B_I_xyz.shape[2:]
        gaps = [(0, 0), *((0, w - n) for n, w in zip(sizes[1:], wide[1:], strict=True))]
        return padded(self._coarse, gaps).flatten(2)[..., : self._length]


def _inside(coarse: int, fine: int, offset: int, dilation: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Return, along one axis, the positions of ``coarse`` whose partner lies in ``fine``, and the partners."""
    shift = dilation * offset - padding
    first = max(0, -(shift // stride))  # the least x with stride · x + shift >= 0
    end = min(coarse, (fine - 1 - shift) // stride + 1)
    if first >= end:
        return slice(0, 0), slice(0, 0)
    return slice(first, end), slice(stride * first + shift, stride * (end - 1) + shift + 1, stride)


def _channels(values_B_C_xyz: torch.Tensor, some: Sequence[int]) -> torch.Tensor:
    """Return some of the channels, (B, c, X), `aligned`."""
    if len(some) == values_B_C_xyz.shape[1]:
        return aligned(values_B_C_xyz).flatten(2)
    # stacked and not indexed: several times as fast on a CPU where the channels are not contiguous
    channels = values_B_C_xyz.unbind(1)
    room = empty_samples(len(values_B_C_xyz), (len(some), *values_B_C_xyz.shape[2:]), values_B_C_xyz)
    return torch.stack([channels[channel] for channel in some], 1, out=room).flatten(2)


def summed_parts(layer: nn.Module, uses: Sequence[LayerGradient], batch: int) -> Iterator[torch.Tensor]:
    """Yield the parts of a layer's gradient for k = 0, ..., K - 1: the sum over its uses, zeros where it has none."""
    for k in range(kernel_offsets(layer)):
        if uses:
            part_B_P_I = uses[0].part(k)
            for use in uses[1:]:
                part_B_P_I += use.part(k)
            yield part_B_P_I
        else:
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
    """Raise ModelError for a layer that `LayerGradient` does not cover: groups, or padding that is not zeros."""
    if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ModelError(
            f"Layer {name} has groups or a padding other than a number of zeros, which has no gradient of each region: "
            "choose a strategy that needs no gradients or another network."
        )
