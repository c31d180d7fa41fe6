"""Per-sample matrix products that are bitwise independent of the sample's position in memory and in the batch.

On some CPUs torch's matrix product (MKL) chooses its instructions, and with them the order of its sums, by the memory
address modulo 64 bytes. If the size of a sample is not a multiple of 64 bytes, two equal samples of a batch then differ
in their last digits, and a region's vector depends on the other regions in its batch. Here every sample starts at a
multiple of 64 bytes, so that all are computed in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

BOUNDARY = 64
"""Bytes: the longest vector register of a CPU, and the alignment of torch's own allocations."""


def empty_samples(count: int, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """Return an uninitialised tensor (count, \\*shape), each sample contiguous and at a multiple of `BOUNDARY` bytes.

    Type and device are those of ``like``. The gaps between the samples are never read.
    """
    length, step = math.prod(shape), BOUNDARY // like.element_size()
    room = torch.empty(count * -(-length // step) + 1, step, dtype=like.dtype, device=like.device).view(-1)
    first = -(room.data_ptr() // like.element_size()) % step
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return room.as_strided((count, *shape), (-(-length // step) * step, *strides), first)


def aligned(values_B: torch.Tensor) -> torch.Tensor:
    """Return samples (B, ...) contiguous, each at a multiple of `BOUNDARY` bytes; a copy only where they are not."""
    at_boundary = values_B.data_ptr() % BOUNDARY == 0 and values_B[0].nbytes % BOUNDARY == 0
    if at_boundary and values_B.is_contiguous():
        return values_B
    return empty_samples(len(values_B), values_B.shape[1:], values_B).copy_(values_B)


def padded(values_B_C_xyz: torch.Tensor, widths: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Return `aligned` samples padded with zeros; ``widths`` are (before, after) for each axis of xyz."""
    if not any(map(any, widths)):
        return aligned(values_B_C_xyz)
    batch, channels, *sizes = values_B_C_xyz.shape
    wide = [front + size + behind for size, (front, behind) in zip(sizes, widths, strict=True)]
    room = empty_samples(batch, (channels, *wide), values_B_C_xyz).zero_()
    inside = [slice(front, front + size) for size, (front, _) in zip(sizes, widths, strict=True)]
    room[(..., *inside)] = values_B_C_xyz
    return room


def sample_products(left_B_P_L: torch.Tensor, right_B_L_I: torch.Tensor) -> torch.Tensor:
    """Return the products (B, P, I) of each sample's two matrices, contiguous.

    Both arguments need the same alignment for every sample: pass `aligned` samples, the same view into each of them, or
    an expanded matrix that all samples share.
    """
    for values_B in (left_B_P_L, right_B_L_I):
        assert len(values_B) == 1 or values_B.stride(0) * values_B.element_size() % BOUNDARY == 0, values_B.stride()
    return torch.bmm(left_B_P_L, right_B_L_I)
