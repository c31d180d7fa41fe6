"""The cost of an annotation in voxels and in the length of the drawn outlines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cost:
    """The cost of one annotated volume; costs of several volumes are added by ``+``.

    Attributes
    ----------
    annotated_voxels : number of annotated voxels, background included
    foreground_voxels : number of annotated voxels that are not background
    contour_mm : length of the outlines in mm, see ``annotation_cost``
    """

    annotated_voxels: int = 0
    foreground_voxels: int = 0
    contour_mm: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        """Return the sum of two costs."""
        return Cost(
            self.annotated_voxels + other.annotated_voxels,
            self.foreground_voxels + other.foreground_voxels,
            self.contour_mm + other.contour_mm,
        )


def annotation_cost(labels_xyz: np.ndarray, spacing_mm: Sequence[float], ignore: int) -> Cost:
    """Count annotated voxels, foreground voxels and the length of all outlines.

    The outlines are those that a reader draws, one per class in each slice perpendicular to the axis of the largest
    spacing (the first such axis; in z, y, x order the slice axis of the file)::

        contour_mm = sum over slices s, classes v, line segments of the contour of [labels_s = v] at 1/2, in mm

    The contour (marching squares, ``skimage.measure.find_contours``) runs halfway between voxel centres and cuts
    corners: a square of n x n voxels of 1 mm has 4 (n - 1) + 2 sqrt(2) mm, a single voxel 2 sqrt(2) mm; curves are on
    average 5 % too long. Where two classes touch, the border counts for each of them. The edge of the annotated area
    and the border of the image are not drawn and do not count; an outline that reaches such an edge lacks its last step
    of one voxel.

    The length is a better proxy of the annotation time than voxels, because a reader draws the outline of a large organ
    and not its volume. But it does not consider where a pre-segmentation was already correct, nor how visible a border
    is.

    ``labels_xyz`` holds the labels of one case, ``ignore`` where nothing is annotated, with any order of the axes;
    ``spacing_mm`` is the distance between voxel centres along each of them.
    """
    assert labels_xyz.ndim == len(spacing_mm) == 3
    annotated_xyz = labels_xyz != ignore
    classes_xyz = np.where(annotated_xyz, labels_xyz, 0)
    across = int(np.argmax(spacing_mm))
    in_plane_mm = np.delete(np.asarray(spacing_mm, float), across)
    length = sum(
        _contour_mm(mask, annotated, in_plane_mm)
        for mask, annotated in _outlined(np.moveaxis(classes_xyz, across, 0), np.moveaxis(annotated_xyz, across, 0))
    )
    return Cost(int(annotated_xyz.sum()), int(np.count_nonzero(classes_xyz)), float(length))


def _outlined(classes_xyz: np.ndarray, annotated_xyz: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (mask, annotated) of each slice of each class, cropped to the class with a margin of one voxel."""
    from scipy.ndimage import find_objects

    for value, found in enumerate(find_objects(classes_xyz), start=1):
        if found is None:
            continue
        slices, *plane = found
        cut = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in plane)
        for index in range(slices.start, slices.stop):
            mask = classes_xyz[index][cut] == value
            if mask.any() and min(mask.shape) > 1:
                yield mask, annotated_xyz[index][cut]


def _contour_mm(mask: np.ndarray, annotated: np.ndarray, spacing_mm: np.ndarray) -> float:
    from skimage.measure import find_contours

    lines = find_contours(mask.astype(np.float64), 0.5, mask=annotated)
    return float(sum(np.linalg.norm(np.diff(line, axis=0) * spacing_mm, axis=1).sum() for line in lines))
