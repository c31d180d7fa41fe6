"""Intensity statistics of many voxels, given as distinct values and their counts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

PERCENTILES = (0.5, 50.0, 99.5)
_BLOCK = 1 << 20
_SIGN = np.uint32(1 << 31)
_LOW_HALF = np.uint64(0xFFFFFFFF)


class ValueCounts(NamedTuple):
    """Voxels of one channel as distinct values (float32, ascending) and their counts (unsigned integers)."""

    values_M: np.ndarray
    counts_M: np.ndarray

    @classmethod
    def of(cls, voxels_N: np.ndarray) -> ValueCounts:
        """Count the values of ``voxels_N``, in the smallest integers that can hold the counts."""
        values_M, counts_M = np.unique(np.asarray(voxels_N, np.float32), return_counts=True)
        return cls(values_M, counts_M.astype(np.min_scalar_type(int(counts_M.max(initial=0)))))


def intensity_statistics(parts: list[ValueCounts], dtype: type[np.floating] = np.float32) -> dict[str, float] | None:
    """Compute nnU-Net's intensity statistics of all voxels together from values and counts.

    Minimum, maximum, median and the 0.5 and 99.5 percentiles are those of ``numpy.percentile`` on the joined voxels, to
    the last digit. Mean and standard deviation are sums of value times count in float64, where nnU-Net sums float32
    numbers; on 10^8 voxels nnU-Net's differ from these in about the seventh digit.

    ``parts`` is emptied during the computation. Peak memory is 8 bytes per distinct value of each part (nnU-Net: 12 to
    16 bytes per voxel), so values that repeat within a case, as in CT, cost almost no memory.

    Returns nnU-Net's keys; None if there is no voxel. numpy rounds its interpolation to ``dtype``, the type of the
    joined voxels.
    """
    n_voxels = sum(int(counts_M.sum(dtype=np.int64)) for _, counts_M in parts)
    if n_voxels == 0:
        return None
    sorted_M = _sorted_pairs(parts)
    mean = math.fsum(float(np.sum(values * counts)) for values, counts in _blocks(sorted_M)) / n_voxels
    spread = math.fsum(float(np.sum((values - mean) ** 2 * counts)) for values, counts in _blocks(sorted_M))
    low, median, high = _percentiles(sorted_M, n_voxels, dtype)
    smallest, largest = _order_statistics(sorted_M, np.array([0, n_voxels - 1]))
    return {
        "mean": mean,
        "median": float(median),
        "std": math.sqrt(spread / n_voxels),
        "min": float(smallest),
        "max": float(largest),
        "percentile_99_5": float(high),
        "percentile_00_5": float(low),
    }


def _sorted_pairs(parts: list[ValueCounts]) -> np.ndarray:
    """Return one uint64 per value, ascending: high half the value, in bits that sort as it does; low half its count.

    The array is sorted in place, because sorting by indices would double the memory.
    """
    pairs_M = np.empty(sum(len(part.values_M) for part in parts), np.uint64)
    start = 0
    while parts:
        values_M, counts_M = parts.pop()
        bits_M = (values_M + np.float32(0)).view(np.uint32)  # adding 0 makes -0 the same as 0
        bits_M = np.where(bits_M & _SIGN, ~bits_M, bits_M | _SIGN)
        pairs_M[start : start + len(bits_M)] = (bits_M.astype(np.uint64) << np.uint64(32)) | counts_M.astype(np.uint64)
        start += len(bits_M)
    pairs_M.sort()
    return pairs_M


def _blocks(pairs_M: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield values (float64) and counts (int64) in blocks."""
    for start in range(0, len(pairs_M), _BLOCK):
        block = pairs_M[start : start + _BLOCK]
        bits = (block >> np.uint64(32)).astype(np.uint32)
        bits = np.where(bits & _SIGN, bits & ~_SIGN, ~bits)
        yield bits.view(np.float32).astype(np.float64), (block & _LOW_HALF).astype(np.int64)


def _order_statistics(pairs_M: np.ndarray, ranks_K: np.ndarray) -> np.ndarray:
    """Return the voxel values at ``ranks_K``, counted from 0, in ascending order of all voxels."""
    found_K = np.empty(len(ranks_K))
    before = 0
    for values, counts in _blocks(pairs_M):
        ends = before + np.cumsum(counts)
        inside_K = (before <= ranks_K) & (ranks_K < ends[-1])
        found_K[inside_K] = values[np.searchsorted(ends, ranks_K[inside_K], side="right")]
        before = int(ends[-1])
    return found_K


def _percentiles(pairs_M: np.ndarray, n_voxels: int, dtype: type[np.floating]) -> np.ndarray:
    """Interpolate as ``numpy.percentile`` does; in the last digit the result depends on the type of the voxels."""
    places = (n_voxels - 1) * np.true_divide(np.array(PERCENTILES), 100)
    lower = np.floor(places).astype(np.int64)
    share = places - lower
    neighbours = _order_statistics(pairs_M, np.concatenate([lower, np.minimum(lower + 1, n_voxels - 1)])).astype(dtype)
    a, b = neighbours[: len(places)], neighbours[len(places) :]
    step = b - a
    interpolated: np.ndarray = np.where(share < 0.5, a + step * share, b - step * (1 - share))
    return interpolated
