"""Distances between the surfaces of two masks, in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def hd95(prediction_xyz: np.ndarray, reference_xyz: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Return the 95th percentile of the Hausdorff distance in mm; see ``hausdorff_distance``."""
    return hausdorff_distance(prediction_xyz, reference_xyz, spacing_mm, percentile=95.0)


def hausdorff_distance(
    prediction_xyz: np.ndarray, reference_xyz: np.ndarray, spacing_mm: Sequence[float], percentile: float = 100.0
) -> float:
    """Return the larger of the two directed percentiles of surface distances, in mm.

    The surface of a mask consists of its voxels with a face neighbour outside the mask or outside the image; the
    distance of a surface voxel is the Euclidean distance from its centre to that of the nearest surface voxel of the
    other mask. The percentile (linear between ranks) is taken in each direction and the larger one returned; some other
    tools pool both directions first, which gives a smaller number where the surfaces differ in size.

    Parameters
    ----------
    prediction_xyz, reference_xyz : bool array
        masks of one shape. Axes of length 1 are ignored: in a 2D image (1, y, x) every voxel would be surface, and the
        spacing of the first axis has no meaning.
    spacing_mm : sequence of float
        distance between voxel centres along each axis.
    percentile : float
        in percent; 100 is the Hausdorff distance itself.

    Returns
    -------
    float
        0 if both masks are empty, the image's diagonal if one is; never more than that diagonal.
    """
    assert prediction_xyz.shape == reference_xyz.shape
    assert prediction_xyz.ndim == len(spacing_mm)
    prediction_xyz, reference_xyz, spacing = _without_flat_axes(prediction_xyz, reference_xyz, spacing_mm)
    if not (prediction_xyz.any() and reference_xyz.any()):
        return 0.0 if prediction_xyz.any() == reference_xyz.any() else _diagonal(prediction_xyz.shape, spacing)

    box = _joint_box(prediction_xyz | reference_xyz)
    prediction_surface, reference_surface = _surface(prediction_xyz[box]), _surface(reference_xyz[box])
    return max(
        _directed(prediction_surface, reference_surface, spacing, percentile),
        _directed(reference_surface, prediction_surface, spacing, percentile),
    )


def _directed(start_xyz: np.ndarray, goal_xyz: np.ndarray, spacing: np.ndarray, percentile: float) -> float:
    distance_xyz = ndimage.distance_transform_edt(~goal_xyz, sampling=spacing)
    return float(np.percentile(distance_xyz[start_xyz], percentile))


def _surface(mask_xyz: np.ndarray) -> np.ndarray:
    return mask_xyz & ~ndimage.binary_erosion(mask_xyz)


def _joint_box(mask_xyz: np.ndarray) -> tuple[slice, ...]:
    # there is no surface outside this box, and outside an image counts as outside the mask
    return ndimage.find_objects(mask_xyz.astype(np.uint8))[0]


def _without_flat_axes(
    prediction_xyz: np.ndarray, reference_xyz: np.ndarray, spacing_mm: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    axes = [axis for axis, length in enumerate(prediction_xyz.shape) if length > 1] or [0]
    shape = [prediction_xyz.shape[axis] for axis in axes]
    spacing = np.array([spacing_mm[axis] for axis in axes], dtype=np.float64)
    return prediction_xyz.reshape(shape), reference_xyz.reshape(shape), spacing


def _diagonal(shape: tuple[int, ...], spacing: np.ndarray) -> float:
    return float(np.linalg.norm(np.array(shape) * spacing))
