"""Conversion between the axes of nnU-Net's reader and those of the image file; some readers reorient images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import SimpleITK

from nnunet_al.nnunet.label_io import LabelFormat
from nnunet_al.pool.boxes import Box


@dataclass(frozen=True)
class FileAxes:
    """Orientation of an array of nnU-Net's reader in the file.

    Attributes
    ----------
    order : axis of the reader's array that becomes axis k, j, i of the file (of an array as SimpleITK gives it)
    flipped : whether the direction of that axis is reversed in the file
    """

    order: tuple[int, ...]
    flipped: tuple[bool, ...]

    def to_file(self, array_xyz: np.ndarray) -> np.ndarray:
        """Convert an array from the reader's axes to those of the file."""
        return array_xyz.transpose(self.order)[self._reversal]

    def from_file(self, array_kji: np.ndarray) -> np.ndarray:
        """Convert an array from the file's axes to those of the reader."""
        return array_kji[self._reversal].transpose(np.argsort(self.order))

    @property
    def _reversal(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flipped)

    def box_to_file(self, box: Box, shape_xyz: tuple[int, ...]) -> Box:
        """Convert a box in an array of ``shape_xyz`` from the reader's axes to those of the file."""
        turned = []
        for axis, flip in zip(self.order, self.flipped, strict=True):
            (low, high), length = box[axis], shape_xyz[axis]
            turned.append((length - high, length - low) if flip else (low, high))
        return tuple(turned)


def file_axes(
    label_format: LabelFormat, shape_xyz: tuple[int, ...], properties: dict[str, Any], ending: str
) -> FileAxes:
    """Determine how nnU-Net's writer orients an array of ``shape_xyz`` in a file with the image's ``properties``.

    A voxel at the end of each axis is written and located in the file. An axis of a single voxel has no direction.
    """
    markers_xyz = np.zeros(shape_xyz, np.int32)
    long_axes = [axis for axis, length in enumerate(shape_xyz) if length > 1]
    for axis in long_axes:
        corner = [0] * len(shape_xyz)
        corner[axis] = shape_xyz[axis] - 1
        markers_xyz[tuple(corner)] = axis + 2
    markers_xyz[(0,) * len(shape_xyz)] = 1
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"markers{ending}"
        label_format.write(path, markers_xyz, properties)
        markers_kji = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    start = np.argwhere(markers_kji == 1)[0]
    order, flipped = [-1] * len(shape_xyz), [False] * len(shape_xyz)
    for axis in long_axes:
        (moved,) = np.flatnonzero(np.argwhere(markers_kji == axis + 2)[0] != start)
        order[moved], flipped[moved] = axis, bool(start[moved] > 0)
    rest = iter(axis for axis in range(len(shape_xyz)) if axis not in order)
    return FileAxes(tuple(axis if axis >= 0 else next(rest) for axis in order), tuple(flipped))
