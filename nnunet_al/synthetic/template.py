"""Templates: the label map of a head from which a cohort is deformed, and the grid of its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from nnunet_al.errors import DatasetError
from nnunet_al.files import nifti_is_finite

LEFT_CAUDATE, RIGHT_CAUDATE = 11, 50
SPACINGS_MM = (0.1, 10.0)
"""Smallest and largest voxel spacing."""


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label map with FreeSurfer's numbers, int16, and its voxel spacing in mm, z, y, x.

    x runs to the patient's left, y to the back and z upwards (the array of an LPS image).
    """

    labels_zyx: np.ndarray
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """Voxels, in the order z, y, x, in the space of the template, whose origin is the midpoint between both caudates.

    ``origin_mm`` is the position of the first voxel's centre.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]

    def axes(self) -> list[np.ndarray]:
        """Return the positions of the voxels' centres along z, y and x in mm."""
        return [
            origin + np.arange(length) * step
            for length, step, origin in zip(self.shape, self.spacing_mm, self.origin_mm, strict=True)
        ]

    def positions(self) -> np.ndarray:
        """Return all positions as ``positions_3_zyx`` in mm, float32."""
        return np.stack(np.meshgrid(*self.axes(), indexing="ij")).astype(np.float32)


def read_template(path: Path) -> LabelMap:
    """Read a label map of a head, stored in any orientation.

    Raises DatasetError if it cannot be read, is cut short, does not have three dimensions and voxels of 0.1 to 10 mm,
    or does not hold whole numbers with a left caudate (11).
    """
    try:
        if not path.is_file():
            raise DatasetError(f"The template {str(path)!r} cannot be read: it is not a file, so give a label map.")
        image = SimpleITK.ReadImage(str(path))
    except (RuntimeError, OSError) as error:
        raise DatasetError(
            f"The template {path} cannot be read: give a label map in a format such as NIfTI."
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise DatasetError(f"The template {path} does not have three axes: give a three-dimensional label map.")
    if not all(SPACINGS_MM[0] <= spacing <= SPACINGS_MM[1] for spacing in image.GetSpacing()):
        raise DatasetError(
            f"The template {path} has voxels of {image.GetSpacing()} mm (x, y, z): give one of 0.1 to 10 mm."
        )
    image = SimpleITK.DICOMOrient(image, "LPS")
    values_zyx = SimpleITK.GetArrayFromImage(image)
    if not (np.isfinite(values_zyx).all() and _is_finite_and_whole(path)):
        raise DatasetError(f"The template {path} holds NaN or infinite voxels: give a map of whole numbers < 32768.")
    labels_zyx = np.round(values_zyx).astype(np.int16)
    if not np.array_equal(labels_zyx, values_zyx):
        raise DatasetError(
            f"The template {path} holds values that are not labels: give a map of whole numbers < 32768."
        )
    if not (labels_zyx == LEFT_CAUDATE).any():
        raise DatasetError(
            f"The template {path} has no left caudate: give a label map with FreeSurfer's numbers, where that is 11."
        )
    z, y, x = image.GetSpacing()[::-1]
    return LabelMap(labels_zyx, (float(z), float(y), float(x)))


def _is_finite_and_whole(path: Path) -> bool:
    try:
        return nifti_is_finite(path)
    except Exception as error:  # whatever nibabel and gzip raise
        raise DatasetError(
            f"The template {path} cannot be read: it seems to be cut short, so copy it again."
        ) from error


def native_grid(template: LabelMap) -> Grid:
    """Return the template's own grid; position 0 is the midpoint between both caudates.

    Without a right caudate (50), position 0 is the centre of the left one.
    """
    centres = [
        np.argwhere(template.labels_zyx == label).mean(0)
        for label in (LEFT_CAUDATE, RIGHT_CAUDATE)
        if (template.labels_zyx == label).any()
    ]
    origin = -np.mean(centres, axis=0) * template.spacing_mm
    z, y, x = (float(value) for value in np.round(origin, 3))
    return Grid(template.labels_zyx.shape, template.spacing_mm, (z, y, x))


def image_grid(template: LabelMap, shape: Sequence[int] | None, spacing_mm: Sequence[float] | None) -> Grid:
    """Return the grid of a cohort's images.

    Without a shape it has the extent of the template; with one it is centred between both caudates. Without a spacing
    it has the template's.
    """
    native = native_grid(template)
    if shape is None and spacing_mm is None:
        return native
    steps = np.array(native.spacing_mm if spacing_mm is None else spacing_mm, dtype=float)
    extent = np.array(native.shape) * native.spacing_mm
    lengths = np.maximum(np.round(extent / steps), 1).astype(int) if shape is None else np.array(shape, dtype=int)
    centre = np.array(native.origin_mm) + (extent - native.spacing_mm) / 2 if shape is None else np.zeros(3)
    origin = np.round(centre - (lengths - 1) / 2 * steps, 3)
    return Grid(_three(lengths, int), _three(steps, float), _three(origin, float))


def _three(values: np.ndarray, kind: type) -> tuple:
    z, y, x = (kind(value) for value in values)
    return z, y, x
