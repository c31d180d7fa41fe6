"""Regions that are annotated completely, from one bool mask of raw voxels per case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_al.pool.boxes import Box, Region, contains, shift, to_slices


def fully_annotated(regions: Sequence[Region], annotated: Mapping[str, np.ndarray]) -> np.ndarray:
    """Tell for each region whether all its voxels are annotated.

    Parameters
    ----------
    regions
        N regions of any cases in any order
    annotated
        case -> bool mask of the raw image's shape; a missing case has no annotation

    Returns
    -------
    np.ndarray
        bool, of shape ``(N,)``.
    """
    complete_N = np.zeros(len(regions), dtype=bool)
    indices_of_case: dict[str, list[int]] = {}
    for index, region in enumerate(regions):
        indices_of_case.setdefault(region.case, []).append(index)
    for case, indices in indices_of_case.items():
        if case in annotated:
            complete_N[indices] = _boxes_filled([regions[index].box for index in indices], annotated[case])
    return complete_N


def _boxes_filled(boxes: list[Box], mask: np.ndarray) -> np.ndarray:
    """Tell for each box of a case whether the mask is True in all its voxels, from one integral image."""
    bounds = _bounding_box(mask)
    if bounds is None:
        return np.zeros(len(boxes), dtype=bool)
    # Only boxes inside the mask's bounding box can be full; in most rounds that is a small part of the image.
    filled = np.array([contains(bounds, box) for box in boxes])
    inner = mask[to_slices(bounds)]
    if not filled.any() or inner.all():
        return filled
    candidates = np.array([shift(boxes[index], [-low for low, _ in bounds]) for index in np.flatnonzero(filled)])
    filled[filled] = _box_sums(integral_image(inner), candidates) == (candidates[..., 1] - candidates[..., 0]).prod(1)
    return filled


def integral_image(mask: np.ndarray) -> np.ndarray:
    """Cumulative sums along every axis, with a leading zero: entry ``i, j, k`` counts True in ``mask[:i, :j, :k]``."""
    dtype = np.int32 if mask.size < np.iinfo(np.int32).max else np.int64
    sums = np.zeros([length + 1 for length in mask.shape], dtype=dtype)
    inner = sums[(slice(1, None),) * mask.ndim]
    inner[...] = mask
    for axis in range(mask.ndim):
        np.cumsum(inner, axis=axis, out=inner)
    return sums


def _box_sums(integral: np.ndarray, boxes_N_axes_2: np.ndarray) -> np.ndarray:
    """Return the sums (N,) over N boxes by inclusion and exclusion over their corners."""
    n_axes = integral.ndim
    total_N = np.zeros(len(boxes_N_axes_2), dtype=np.int64)
    for corner in np.ndindex(*(2,) * n_axes):
        sign = (-1) ** (n_axes - sum(corner))
        total_N += sign * integral[tuple(boxes_N_axes_2[:, axis, end] for axis, end in enumerate(corner))]
    return total_N


def _bounding_box(mask: np.ndarray) -> Box | None:
    bounds = []
    for axis in range(mask.ndim):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(occupied):
            return None
        bounds.append((int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(bounds)
