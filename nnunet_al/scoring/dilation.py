"""Dilation by a ball with a radius in mm, on the device of the mask."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

_ROUNDING = 1e-5  # relative: three steps of 0.1 mm must not exceed 0.3 mm by float32 rounding


def dilate(mask_B_xyz: torch.Tensor, radius_mm: float, spacing_mm: Sequence[float]) -> torch.Tensor:
    """Return the voxels that have a True voxel within `radius_mm`, from centre to centre, as a bool mask B_xyz.

    The ball is exact, not approximated by boxes: squared distances are minimised along one axis after the other, up to
    the radius, which gives the Euclidean minimum. Voxels outside the tensor count as False.

    Parameters
    ----------
    mask_B_xyz
        bool, with as many spatial axes as `spacing_mm` has entries.
    radius_mm
        at least 0; 0 returns the mask itself.
    spacing_mm
        distance of neighbouring voxels along each spatial axis.
    """
    assert radius_mm >= 0, radius_mm
    assert len(spacing_mm) == mask_B_xyz.ndim - 1, (tuple(spacing_mm), tuple(mask_B_xyz.shape))
    reach_mm = radius_mm * (1 + _ROUNDING)
    squared_B_xyz = torch.full(mask_B_xyz.shape, math.inf, dtype=torch.float32, device=mask_B_xyz.device)
    squared_B_xyz[mask_B_xyz] = 0.0
    for axis, step_mm in enumerate(spacing_mm, start=1):
        squared_B_xyz = _nearest_along(squared_B_xyz, axis, float(step_mm), reach_mm)
    return squared_B_xyz <= reach_mm**2


def _nearest_along(squared_B_xyz: torch.Tensor, axis: int, step_mm: float, reach_mm: float) -> torch.Tensor:
    """Return min over k of squared[i + k] + (k · step)² along one axis, for all |k| · step <= reach."""
    length = squared_B_xyz.shape[axis]
    nearest = squared_B_xyz.clone()
    for k in range(1, min(int(reach_mm / step_mm), length - 1) + 1):
        cost = (k * step_mm) ** 2
        for to, source in ((k, 0), (0, k)):
            view = nearest.narrow(axis, to, length - k)
            torch.minimum(view, squared_B_xyz.narrow(axis, source, length - k) + cost, out=view)
    return nearest
