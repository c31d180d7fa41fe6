"""The weight gradient of one convolution for each sample: its input correlated with the gradient of its output.

It is computed in parts, one for each offset k of the kernel: part k, (B, P, I), holds the weight's entries [p, i, k]. A
caller that needs only single entries or sums of the gradient holds one part at a time. The gradient is divided along
the kernel and not along the batch, because a matrix product over fewer samples may round differently.
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
"""Number of multiplications that cost as much as copying one number, measured on a CPU.

It is the same on all machines, so that the choice between two algorithms, which differ in the last digits, depends on
shapes and counts only."""


def kernel_offsets(layer: nn.Module) -> int:
    """Return K, the number of offsets of the kernel, which are the innermost axis of the flattened weight."""
    return math.prod(layer.kernel_size)


class LayerGradient:
    """∂L_b/∂weight of one use of a 2d or 3d (transposed) convolution with any stride and dilation, part by part.

    For a kernel offset k, ∂L/∂w[p, i, k] = Σ_x g[p, x] · a[i, stride · x + dilation · k - padding], a the input and g
    the output's gradient. A transposed convolution swaps a and g. Below, ``coarse``, (B, P, xyz), is g, or a for a
    transposed convolution, and ``fine``, (B, I, xyz), is the other one; X is the number of positions of ``coarse``.
    """

    def __init__(self, layer: nn.Module, input_B_I_xyz: torch.Tensor, output_gradient_B_O_xyz: torch.Tensor) -> None:
        """Store input and output gradient; nothing is computed yet."""
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

        Only the named channels are copied, and only positions whose partner is not padding.
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
        """Strides: distance in memory of neighbours along each axis of ``_padded_B_I_xyz``."""
        sizes = self._padded_B_I_xyz.shape[2:]
        return [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]

    @cached_property
    def _length(self) -> int:
        """L, number of memory positions in ``_padded_B_I_xyz`` from the first to the last position of ``coarse``."""
        return 1 + sum((n - 1) * step for n, step in zip(self._coarse.shape[2:], self._steps, strict=True))

    @cached_property
    def _slides(self) -> bool:
        """Whether views of ``fine`` replace a copy for each offset, see `_widened_B_P_L`.

        The product then has length L instead of X, which must cost less than copying X numbers.
        """
        positions = math.prod(self._coarse.shape[2:])
        unit_strides = all(stride == 1 for stride in self._layer.stride)
        return unit_strides and self._coarse.shape[1] * (self._length - positions) <= COPY * positions

    @cached_property
    def _widened_B_P_L(self) -> torch.Tensor:
        """``coarse`` with zeros between its rows, so that its positions have the same strides as the padded ``fine``.

        The partners for each offset are then one contiguous slice of the padded ``fine``, which needs no copy.
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
    """Return the given channels, (B, c, X), `aligned`."""
    if len(some) == values_B_C_xyz.shape[1]:
        return aligned(values_B_C_xyz).flatten(2)
    # stacking is several times faster than indexing on a CPU where the channels are not contiguous
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
    """Return the whole gradient (B, \\*weight.shape) from its parts."""
    result: torch.Tensor | None = None
    for k, part_B_P_I in enumerate(parts):
        if result is None:  # filled in place: stacking a list of the parts would need twice the memory
            result = part_B_P_I.new_empty(*part_B_P_I.shape, kernel_offsets(layer))
        result[..., k] = part_B_P_I
    assert result is not None
    return result.unflatten(-1, layer.kernel_size)


def refuse_unsupported(name: str, layer: nn.Module) -> None:
    """Raise ModelError for a layer that `LayerGradient` does not cover: groups, or padding that is not zeros."""
    if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ModelError(
            f"Layer {name} has groups or a padding other than a number of zeros, for which gradients per region are "
            "not implemented: choose a strategy that needs no gradients or another network."
        )
