"""Maps on the network's grid as slices of the raw image."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates

from nnunet_al.pool.geometry import CaseGeometry


def on_raw_slice(map_xyz: np.ndarray, geometry: CaseGeometry, index: int, first: int = 0, order: int = 1) -> np.ndarray:
    """Resample a map from the network's grid to a slice of the raw image, by interpolation within the slice.

    ``order`` 1 is linear, 0 takes the nearest value. ``index`` counts slices along the raw axis
    ``geometry.transpose_forward[0]``, which is the network's first; ``map_xyz`` begins with the network's slice
    ``first``. The result is (y, x) in the order of the raw axes, NaN where nnU-Net crops the image away.
    """
    _, *within = geometry.transpose_forward
    plane_shape = [geometry.raw_shape[axis] for axis in within]
    number = network_slice(geometry, index)
    if number is None:
        plane = np.full(plane_shape, np.nan)
    else:
        positions, inside = [], []
        for axis, length in enumerate(plane_shape, start=1):
            (low, high), of = geometry.crop_box[axis], geometry.network_shape[axis]
            steps = np.arange(length)
            inside.append((steps >= low) & (steps < high))
            positions.append((steps - low + 0.5) * of / (high - low) - 0.5)
        grid = np.meshgrid(*positions, indexing="ij")
        plane = map_coordinates(map_xyz[number - first].astype(float), grid, order=order, mode="nearest")
        plane[~np.logical_and.outer(*inside)] = np.nan
    return plane if within[0] < within[1] else plane.T


def network_slice(geometry: CaseGeometry, index: int) -> int | None:
    """Return the network's slice in which the middle of a raw slice lies; None where it is cropped away."""
    (low, high), of = geometry.crop_box[0], geometry.network_shape[0]
    return int((index - low + 0.5) * of / (high - low)) if low <= index < high else None
