"""Voxel grids in space, and the exact transfer of labels from one grid to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import SimpleITK

from nnunet_al.errors import ReturnError
from nnunet_al.pool.boxes import Box

_TOLERANCE = 0.01
"""Largest distance, in voxels, between corresponding voxels of the returned grid and the image's."""
_TIMES, _MANY_VOXELS = 8, 1 << 27
"""A file that may extend beyond the image has at most so many times its voxels, or so many voxels."""


@dataclass(frozen=True)
class Grid:
    """The voxel grid of an image in SimpleITK's convention: LPS, millimetres, i is the fastest axis of the file.

    Attributes
    ----------
    size_ijk : voxels along each axis
    spacing_mm : step along each axis
    origin_mm : centre of the first voxel
    direction : nine numbers, row by row; column a is the direction of axis a
    """

    size_ijk: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: SimpleITK.Image | SimpleITK.ImageFileReader) -> Grid:
        """Return the grid of an image, or of a file whose header was read."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @property
    def shape_kji(self) -> tuple[int, ...]:
        """The shape of an array on this grid."""
        return self.size_ijk[::-1]

    @property
    def n_voxels(self) -> int:
        """The number of voxels."""
        return prod(self.size_ijk)

    @property
    def matrix(self) -> np.ndarray:
        """Matrix (3, 3) from an index (i, j, k) to the offset from the origin in mm."""
        return np.reshape(self.direction, (3, 3)) * self.spacing_mm

    def image(self, array_kji: np.ndarray) -> SimpleITK.Image:
        """Return an array as an image on this grid."""
        assert array_kji.shape == self.shape_kji, (array_kji.shape, self.shape_kji)
        image = SimpleITK.GetImageFromArray(array_kji)
        image.SetSpacing(self.spacing_mm)
        image.SetOrigin(self.origin_mm)
        image.SetDirection(self.direction)
        return image

    def points_mm(self, indices_N_ijk: Sequence[Sequence[float] | np.ndarray]) -> np.ndarray:
        """Return the positions (N, 3) of voxel indices, integer or not, in LPS and mm."""
        return np.asarray(indices_N_ijk, np.float64) @ self.matrix.T + self.origin_mm

    def box_corners_mm(self, box_kji: Box) -> np.ndarray:
        """Return the eight outer corners of a box, (8, 3), in LPS and mm; i changes fastest, low before high.

        Voxels extend half a step around their centres, so the box [low, high) reaches from low - 1/2 to high - 1/2.
        """
        return self.points_mm([[i - 0.5, j - 0.5, k - 0.5] for k, j, i in product(*box_kji)])


def read_grid(image: Path) -> Grid:
    """Return the grid of an image without reading its voxels."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(image))
    reader.ReadImageInformation()
    return Grid.of(reader)


def are_one_grid(one: Grid, other: Grid) -> bool:
    """Tell whether labels drawn on one grid may be taken for labels drawn on the other, voxel by voxel."""
    try:
        turn, _ = _place_of(one, other, may_be_cropped=False)
    except ReturnError:
        return False
    return np.array_equal(turn, np.eye(3, dtype=int))


def check_fit(theirs: Grid, grid: Grid, may_be_cropped: bool) -> None:
    """Check by its grid alone that labels can be placed on an image's ``grid``, so that no voxel need be read before.

    Raises ReturnError as `place` does, or if the file is much larger than the image.
    """
    if may_be_cropped and theirs.n_voxels == 1:  # 3D Slicer's file without any painted voxel, if that is empty
        return
    _place_of(theirs, grid, may_be_cropped)
    if theirs.n_voxels > max(_TIMES * grid.n_voxels, _MANY_VOXELS):
        raise ReturnError(_difference(theirs, grid))


def place(image: SimpleITK.Image, grid: Grid, may_be_cropped: bool) -> tuple[np.ndarray, int]:
    """Transfer labels to the grid on which they were drawn, for any order and direction of the file's axes.

    Axes of the 3D image of integers are only swapped, flipped, cropped or padded with zeros, so every voxel keeps its
    value and position. With ``may_be_cropped`` the image may cover only a part of ``grid`` or extend beyond it, as 3D
    Slicer's files do. Returns the labels (k, j, i) as int32 on ``grid``, and the number of voxels of ``image`` that are
    not 0 and lie outside ``grid``.

    Raises ReturnError if a corner of ``image`` is more than 0.01 voxels away from a voxel of ``grid``, or if ``image``
    does not cover ``grid`` and may not be cropped; the sentence names the difference.
    """
    array_kji = SimpleITK.GetArrayViewFromImage(image)
    if may_be_cropped and array_kji.size == 1 and not array_kji.any():  # 3D Slicer's file without any painted voxel
        return np.zeros(grid.shape_kji, np.int32), 0
    turn, ends_2_ijk = _place_of(Grid.of(image), grid, may_be_cropped)
    source, sign = np.abs(turn).argmax(1), turn.sum(1)  # axis of the grid -> axis of the file, and its direction
    array_ijk = array_kji.T.transpose(source)
    array_ijk = array_ijk[tuple(slice(None, None, int(step)) for step in sign)]
    low, high = np.maximum(ends_2_ijk[0], 0), np.minimum(ends_2_ijk[1] + 1, grid.size_ijk)
    labels_ijk = np.zeros(grid.size_ijk, np.int32, order="F")
    if (low < high).all():
        labels_ijk[_between(low, high)] = array_ijk[_between(low - ends_2_ijk[0], high - ends_2_ijk[0])]
    outside = int(np.count_nonzero(array_ijk)) - int(np.count_nonzero(labels_ijk))
    return np.ascontiguousarray(labels_ijk.transpose(2, 1, 0)), outside


def _place_of(theirs: Grid, grid: Grid, may_be_cropped: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return how axes are swapped and flipped, and the range (low and high) of the file's voxels on ``grid``."""
    to_grid = np.linalg.inv(grid.matrix)
    matrix = to_grid @ theirs.matrix
    offset = to_grid @ (np.asarray(theirs.origin_mm) - grid.origin_mm)
    turn, steps = np.rint(matrix).astype(int), np.rint(offset).astype(int)
    corners_8_ijk = np.array(list(product(*((0, n - 1) for n in theirs.size_ijk))))
    drift = np.abs(corners_8_ijk @ (matrix - turn).T + (offset - steps)).max()
    if not np.array_equal(turn @ turn.T, np.eye(3, dtype=int)) or not drift <= _TOLERANCE:
        raise ReturnError(_difference(theirs, grid))
    ends_2_ijk = np.sort(corners_8_ijk[[0, -1]] @ turn.T + steps, axis=0)
    whole = (ends_2_ijk[0] == 0).all() and (ends_2_ijk[1] + 1 == grid.size_ijk).all()
    if not whole and not may_be_cropped:
        raise ReturnError(_difference(theirs, grid))
    return turn, ends_2_ijk


def _between(low_ijk: np.ndarray, high_ijk: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(int(low), int(high)) for low, high in zip(low_ijk, high_ijk, strict=True))


def _difference(theirs: Grid, grid: Grid) -> str:
    """Return one sentence on the difference between two grids."""
    axes = np.reshape(grid.direction, (3, 3)).T @ np.reshape(theirs.direction, (3, 3))
    turn = np.rint(axes).astype(int)
    differences = []
    if not np.array_equal(turn @ turn.T, np.eye(3, dtype=int)) or np.abs(axes - turn).max() > 1e-3:
        degrees = np.degrees(np.arccos(np.clip(np.abs(axes).max(0).min(), 0, 1)))
        differences.append(f"it is rotated by up to {degrees:.3g} degrees")
    else:
        order = np.abs(turn).argmax(1)
        spacing_mm = tuple(theirs.spacing_mm[axis] for axis in order)
        size_ijk = tuple(theirs.size_ijk[axis] for axis in order)
        if not np.allclose(spacing_mm, grid.spacing_mm, rtol=_TOLERANCE / max(theirs.size_ijk), atol=0):
            differences.append(
                f"its voxels measure {_numbers(spacing_mm)} mm instead of {_numbers(grid.spacing_mm)} mm"
            )
        if size_ijk != grid.size_ijk:
            differences.append(f"it has {_numbers(size_ijk)} voxels instead of {_numbers(grid.size_ijk)}")
    if not differences:
        centres = [each.points_mm([(np.array(each.size_ijk) - 1) / 2])[0] for each in (theirs, grid)]
        differences.append(f"it lies {np.linalg.norm(centres[0] - centres[1]):.4g} mm away")
    found = ", ".join(differences)
    return f"The grid is not the image's ({found}): save the segmentation with the image as its reference."


def _numbers(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.6g}" for value in values)
