"""Division of a case into regions for annotation: the whole case, slices or patches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil

import numpy as np

from nnunet_al.errors import CampaignError
from nnunet_al.pool.boxes import Region, whole
from nnunet_al.pool.geometry import CaseGeometry

UNITS = ("case", "slice", "patch")


def tile_case(geometry: CaseGeometry, unit: str, patch_size: Sequence[int], overlap: float = 0.5) -> list[Region]:
    """Divide a case into regions, sorted and unique.

    Parameters
    ----------
    geometry
        the case's voxel grids
    unit
        ``"case"``: the whole raw volume. ``"slice"``: one raw slice along the first transposed axis with its full raw
        extent, for every slice that overlaps the crop box. ``"patch"``: boxes that cover the crop box; in 2d (two
        numbers in ``patch_size``) each of them lies in one slice.
    patch_size
        the planned patch in network voxels, two numbers (2d) or three (3d)
    overlap
        smallest share of a tile that neighbours have in common, in [0, 1); patches only

    Raises CampaignError if there is no such unit, the overlap is not in [0, 1) or the patch fits neither 2d nor 3d.
    """
    if unit not in UNITS:
        raise CampaignError(f"There is no unit of annotation {unit!r}: choose one of {', '.join(UNITS)}.")
    if not 0 <= overlap < 1:
        raise CampaignError(f"An overlap of {overlap} between patches is impossible: choose one in [0, 1).")
    n_axes = len(geometry.raw_shape)
    if len(patch_size) not in (2, 3) or len(patch_size) > n_axes or min(patch_size) < 1:
        raise CampaignError(
            f"A patch of {tuple(patch_size)} does not fit case {geometry.case} with its {n_axes} axes: "
            "give two (2d) or three (3d) positive numbers."
        )
    if unit == "case":
        return [Region(geometry.case, whole(geometry.raw_shape))]

    (depth_low, depth_high), *_ = geometry.crop_box
    slices = [(index, index + 1) for index in range(depth_low, depth_high)]
    if unit == "slice":
        intervals = [slices, *([(0, length)] for length in geometry.transposed(geometry.raw_shape)[1:])]
    else:
        intervals = [
            [(low + start, low + stop) for start, stop in tile_axis(high - low, network_length, patch_length, overlap)]
            for (low, high), network_length, patch_length in zip(
                geometry.crop_box[-len(patch_size) :],
                geometry.network_shape[-len(patch_size) :],
                patch_size,
                strict=True,
            )
        ]
        if len(patch_size) < n_axes:
            intervals = [slices, *intervals]
    # The product of sorted intervals in the order of the raw axes is sorted.
    return [Region(geometry.case, box) for box in product(*geometry.untransposed(tuple(intervals)))]


def tile_axis(raw_length: int, network_length: int, patch_length: int, overlap: float) -> list[tuple[int, int]]:
    """Cover ``[0, raw_length)`` with tiles of `longest_tile` raw voxels, evenly spread, sorted and unique.

    The first starts at 0, the last ends at ``raw_length``; with tiles of L voxels there are
    ``ceil((raw_length - L) / ((1 - overlap) * L)) + 1`` of them, at rounded multiples of the even step between them,
    as in nnU-Net's sliding window.
    """
    tile = longest_tile(raw_length, network_length, patch_length)
    room = raw_length - tile
    n_steps = min(ceil(room / (tile * (1 - overlap))), room)
    starts = np.round(np.arange(n_steps + 1) * (room / n_steps)).astype(int) if n_steps else np.zeros(1, dtype=int)
    return [(start, start + tile) for start in np.unique(starts).tolist()]


def longest_tile(raw_length: int, network_length: int, patch_length: int) -> int:
    """Return the largest number of raw voxels of a tile whose network box fits the patch at every start.

    A tile of L raw voxels that starts at s covers network voxels ``[floor(s m / n), ceil((s + L) m / n))`` with n raw
    and m network voxels on the axis. If one raw voxel is already larger than the patch, the tile is one voxel, and
    `windows_of` needs several windows for it.
    """
    fits, too_long = 1, raw_length + 1
    while too_long - fits > 1:
        tile = (fits + too_long) // 2
        starts = np.arange(raw_length - tile + 1, dtype=np.int64)
        widest = (-(-(starts + tile) * network_length // raw_length) - starts * network_length // raw_length).max()
        # The widest network box cannot decrease with the length of the tile, so bisection is valid.
        fits, too_long = (tile, too_long) if widest <= patch_length else (fits, tile)
    return fits
