"""Conversion between raw voxels of a case and voxels of the network's image: transpose, crop, resample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_al.errors import CampaignError
from nnunet_al.pool.boxes import Box, as_box, box_shape, contains, intersect, shift, whole


class OutsideCropError(CampaignError, ValueError):
    """A region lies completely in the part of the image that nnU-Net crops away."""


@dataclass(frozen=True)
class CaseGeometry:
    """Effect of nnU-Net's preprocessing on the voxel grid of one case.

    Attributes
    ----------
    case : the case's identifier
    raw_shape : voxels per axis as nnU-Net's reader gives them (SimpleITK: z, y, x)
    raw_spacing_mm : voxel spacing in mm, in the same axis order
    transpose_forward : axis ``i`` after the transpose is raw axis ``transpose_forward[i]``
    crop_box : nnU-Net's ``bbox_used_for_cropping``: raw voxels, TRANSPOSED axes
    network_shape : voxels per axis after transpose, crop and resampling: the preprocessed array is ``(C,
        *network_shape)``

    Along each axis ``n`` cropped voxels become ``m`` network voxels; network voxel ``i`` covers the raw interval
    ``[i * n / m, (i + 1) * n / m)``, which is how nnU-Net resamples: the outer borders of both grids coincide.
    All computations are in integers, so no rounding of floats moves a border.
    """

    case: str
    raw_shape: tuple[int, ...]
    raw_spacing_mm: tuple[float, ...]
    transpose_forward: tuple[int, ...]
    crop_box: Box
    network_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that the grids are consistent."""
        assert sorted(self.transpose_forward) == list(range(len(self.raw_shape)))
        assert contains(whole(self.transposed(self.raw_shape)), self.crop_box)
        assert min(self.crop_shape) > 0
        assert len(self.network_shape) == len(self.raw_shape)
        assert min(self.network_shape) > 0

    @property
    def crop_shape(self) -> tuple[int, ...]:
        """Voxels per axis after transpose and crop, before resampling."""
        return box_shape(self.crop_box)

    @property
    def raw_crop_box(self) -> Box:
        """The crop box in the axis order of the raw image."""
        return self.untransposed(self.crop_box)

    def transposed(self, values: tuple) -> tuple:
        """Reorder one value per raw axis to nnU-Net's order of axes."""
        return tuple(values[axis] for axis in self.transpose_forward)

    def untransposed(self, values: tuple) -> tuple:
        """Reorder one value per transposed axis to the order of the raw axes."""
        return tuple(values[self.transpose_forward.index(axis)] for axis in range(len(values)))

    def to_network(self, raw_box: Box) -> Box:
        """Return the smallest box of network voxels that covers ``raw_box`` as far as it lies in the crop box.

        Transpose, intersect with the crop box, subtract its corner, then per axis ``[lo, hi)`` of ``n`` raw voxels
        becomes ``[floor(lo * m / n), ceil(hi * m / n))`` of ``m`` network voxels.

        Raises OutsideCropError if no voxel of the box lies inside the crop box.
        """
        seen = intersect(self.transposed(raw_box), self.crop_box)
        if seen is None:
            raise OutsideCropError(
                f"The box {raw_box} of case {self.case} lies completely outside {self.raw_crop_box}, the part of the "
                "image that nnU-Net keeps (the rest is zero in every channel): choose a region that overlaps it."
            )
        cropped = shift(seen, [-low for low, _ in self.crop_box])
        return _rescale(cropped, self.crop_shape, self.network_shape)

    def to_raw(self, network_box: Box) -> Box:
        """Return the smallest box of raw voxels (raw axis order) that covers ``network_box``, cut to the crop box.

        Raises OutsideCropError if no voxel of the box lies inside the network's image.
        """
        inside = intersect(network_box, whole(self.network_shape))
        if inside is None:
            raise OutsideCropError(
                f"The box {network_box} lies completely outside the {self.network_shape} network voxels of case "
                f"{self.case}: choose a box that overlaps them."
            )
        cropped = _rescale(inside, self.network_shape, self.crop_shape)
        return self.untransposed(shift(cropped, [low for low, _ in self.crop_box]))

    def to_json(self) -> dict[str, Any]:
        """Return the geometry as a JSON value."""
        return {
            "case": self.case,
            "raw_shape": list(self.raw_shape),
            "raw_spacing_mm": list(self.raw_spacing_mm),
            "transpose_forward": list(self.transpose_forward),
            "crop_box": [list(interval) for interval in self.crop_box],
            "network_shape": list(self.network_shape),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CaseGeometry:
        """Return the geometry from the result of `to_json`."""
        return cls(
            case=str(content["case"]),
            raw_shape=tuple(int(length) for length in content["raw_shape"]),
            raw_spacing_mm=tuple(float(length) for length in content["raw_spacing_mm"]),
            transpose_forward=tuple(int(axis) for axis in content["transpose_forward"]),
            crop_box=as_box(content["crop_box"]),
            network_shape=tuple(int(length) for length in content["network_shape"]),
        )


def _rescale(box: Box, shape_from: tuple[int, ...], shape_to: tuple[int, ...]) -> Box:
    return tuple(
        (low * to // of, -(-high * to // of)) for (low, high), of, to in zip(box, shape_from, shape_to, strict=True)
    )
