"""Random case geometries, small enough to check voxel by voxel, and masks to compare boxes with."""

from __future__ import annotations

import itertools

import numpy as np

from nnunet_al.pool.boxes import Box, to_slices
from nnunet_al.pool.geometry import CaseGeometry

TRANSPOSES = list(itertools.permutations(range(3)))
N_GEOMETRIES = 30


def random_geometry(seed: int, resample_first_axis: bool = True, longest: int = 24) -> CaseGeometry:
    """Transposed, cropped, anisotropic: every combination comes up."""
    rng = np.random.default_rng(seed)
    raw_shape = tuple(int(length) for length in rng.integers(1, longest, size=3))
    transpose = TRANSPOSES[seed % len(TRANSPOSES)]
    crop = []
    for axis in transpose:
        low = int(rng.integers(0, raw_shape[axis]))
        crop.append((low, int(rng.integers(low + 1, raw_shape[axis] + 1))))
    crop_shape = [high - low for low, high in crop]
    network_shape = [max(1, round(length * float(rng.uniform(0.4, 2.5)))) for length in crop_shape]
    if not resample_first_axis:
        network_shape[0] = crop_shape[0]
    return CaseGeometry(
        case=f"case_{seed:03d}",
        raw_shape=raw_shape,
        raw_spacing_mm=tuple(float(spacing) for spacing in rng.uniform(0.5, 5, size=3)),
        transpose_forward=transpose,
        crop_box=tuple(crop),
        network_shape=tuple(network_shape),
    )


def random_box(rng: np.random.Generator, bounds: Box) -> Box:
    """A box with at least one voxel inside ``bounds``."""
    box = []
    for low, high in bounds:
        start = int(rng.integers(low, high))
        box.append((start, int(rng.integers(start + 1, high + 1))))
    return tuple(box)


def mask_of(boxes: list[Box], shape: tuple[int, ...]) -> np.ndarray:
    """How often each voxel lies in one of the boxes."""
    counts = np.zeros(shape, dtype=int)
    for box in boxes:
        counts[to_slices(box)] += 1
    return counts
