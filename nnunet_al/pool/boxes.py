"""Boxes of voxels, and regions, the units of annotation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

Box = tuple[tuple[int, int], ...]
"""Half-open intervals ``[lo, hi)``, one per axis, in voxels."""


@dataclass(frozen=True, order=True, slots=True)
class Region:
    """A box of raw voxels in one case; regions sort by case, then by the box's intervals axis by axis.

    ``box`` counts raw voxels in the axis order of nnU-Net's reader: an image read by SimpleITK is z, y, x.
    """

    case: str
    box: Box

    @property
    def name(self) -> str:
        """The region as text, for example ``case_01[3:4,0:40,8:48]``."""
        return f"{self.case}[{','.join(f'{low}:{high}' for low, high in self.box)}]"


def as_box(intervals: Iterable[Iterable[int]]) -> Box:
    """Return a box of Python integers from nested sequences with two numbers per axis (JSON lists, arrays)."""
    box = []
    for interval in intervals:
        low, high = interval
        box.append((int(low), int(high)))
    return tuple(box)


def whole(shape: Sequence[int]) -> Box:
    """Return the box of all voxels of an array of this shape."""
    return tuple((0, int(length)) for length in shape)


def to_slices(box: Box) -> tuple[slice, ...]:
    """Return the box as an index: ``array_xyz[to_slices(box)]`` are its voxels."""
    return tuple(slice(low, high) for low, high in box)


def box_shape(box: Box) -> tuple[int, ...]:
    """Return the number of voxels along each axis."""
    return tuple(high - low for low, high in box)


def n_voxels(box: Box) -> int:
    """Return the number of voxels; 0 if the box is empty along an axis."""
    return prod(max(length, 0) for length in box_shape(box))


def intersect(a: Box, b: Box) -> Box | None:
    """Return the intersection of two boxes, or None where it is empty."""
    shared = tuple(
        (max(a_low, b_low), min(a_high, b_high)) for (a_low, a_high), (b_low, b_high) in zip(a, b, strict=True)
    )
    return shared if all(low < high for low, high in shared) else None


def contains(outer: Box, inner: Box) -> bool:
    """Tell whether every voxel of ``inner`` lies in ``outer``."""
    return all(low <= a and b <= high for (low, high), (a, b) in zip(outer, inner, strict=True))


def shift(box: Box, offset: Sequence[int]) -> Box:
    """Return the box moved by ``offset`` voxels along each axis."""
    return tuple((low + step, high + step) for (low, high), step in zip(box, offset, strict=True))
