"""One case as readers got it: what their files are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from nnunet_al.annotation.grids import Grid
from nnunet_al.pool.boxes import Box, to_slices


@dataclass(frozen=True)
class ExpectedCase:
    """One case as it was handed out.

    Attributes
    ----------
    case : its id
    grid : the image's grid
    handed_out_kji : the pre-segmentation, zeros without one
    earlier_kji : earlier annotations, ``ignore`` elsewhere
    ignore : value of unannotated voxels
    boxes : rank of each region -> its voxels, half-open, k first
    """

    case: str
    grid: Grid
    handed_out_kji: np.ndarray
    earlier_kji: np.ndarray
    ignore: int
    boxes: Mapping[int, Box]

    def inside(self, ranks: Iterable[int] | None = None) -> np.ndarray:
        """Return a mask (k, j, i) of the voxels in the regions of these ranks, of all regions without ``ranks``."""
        inside_kji = np.zeros(self.grid.shape_kji, bool)
        for rank in self.boxes if ranks is None else ranks:
            inside_kji[to_slices(self.boxes[rank])] = True
        return inside_kji
