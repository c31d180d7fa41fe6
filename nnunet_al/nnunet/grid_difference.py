"""Whether two files of a case lie on one grid, by the distance of their voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

TOLERANCE = 0.01
"""Largest distance, in voxels, between corresponding corners of two grids."""


def grid_difference(
    found: Mapping[str, Any], wanted: Mapping[str, Any], shape_xyz: Sequence[int]
) -> tuple[str, Any, Any] | None:
    """Compare the properties that nnU-Net's reader gives of two files of the same shape.

    Headers may differ by rounding: numbers that ``numpy.allclose`` takes for equal, as nnU-Net does, and corners that
    lie together up to ``TOLERANCE``.

    Returns the name of what differs and its two values (None: absent), or None.
    """
    theirs, ours = _header(found), _header(wanted)
    for name, value in theirs.items():
        other = ours.get(name)
        if other is None or np.shape(value) != np.shape(other):
            return name, value, other
        if not np.allclose(value, other):
            together = _corner_distance(found, wanted, shape_xyz) <= TOLERANCE
            return None if together else (name, value, other)
    return None


def _header(properties: Mapping[str, Any]) -> dict[str, Any]:
    sitk, nib = properties.get("sitk_stuff", {}), properties.get("nibabel_stuff", {})
    header = {"spacing": properties["spacing"], "origin": sitk.get("origin"), "direction": sitk.get("direction")}
    header["affine"] = nib.get("original_affine")
    return {name: value for name, value in header.items() if value is not None}


def _corner_distance(found: Mapping[str, Any], wanted: Mapping[str, Any], shape_xyz: Sequence[int]) -> float:
    """Return the largest distance of corresponding corners, in voxels of ``wanted``."""
    (matrix, origin), (our_matrix, our_origin) = _affine(found), _affine(wanted)
    try:
        to_voxels = np.linalg.inv(our_matrix)
    except np.linalg.LinAlgError:
        return np.inf
    if matrix.shape != our_matrix.shape:
        return np.inf
    # with nibabel the array's axes may be in another order than the file's, so each may be the longest
    lengths = [max(shape_xyz)] * 3 if "nibabel_stuff" in wanted else [*shape_xyz[::-1], 1][: len(origin)]
    corners_N_ijk = np.array(list(product(*((0, length - 1) for length in lengths))), np.float64)
    apart_N_mm = corners_N_ijk @ (matrix - our_matrix).T + (origin - our_origin)
    return float(np.abs(apart_N_mm @ to_voxels.T).max())


def _affine(properties: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix from a voxel's index to its offset from the first voxel, and the position of that."""
    if nib := properties.get("nibabel_stuff"):
        affine = np.asarray(nib["original_affine"], np.float64)
        return affine[:-1, :-1], affine[:-1, -1]
    if sitk := properties.get("sitk_stuff"):
        origin = np.asarray(sitk["origin"], np.float64)
        return np.reshape(sitk["direction"], (len(origin), -1)) * np.asarray(sitk["spacing"], np.float64), origin
    steps = np.asarray(properties["spacing"], np.float64)[::-1]
    return np.diag(steps), np.zeros(len(steps))
