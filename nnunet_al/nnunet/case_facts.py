"""Geometry, file hashes and label state of a case, which do not depend on a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunet_al.pool.boxes import Box, as_box, box_shape


@dataclass(frozen=True)
class CaseFacts:
    """Geometry, file hashes and label state of a case.

    Attributes
    ----------
    reader : name of nnU-Net's reader, whose axis order the shapes, spacings and boxes have
    image_hashes : SHA-256 of each image file
    label_hash : SHA-256 of the label's values; None without a label file
    label_state : ``none`` (no file), ``unannotated`` (all ignore in the nonzero mask), ``partial`` (some ignore) or
        ``complete``
    raw_shape : voxels per axis
    spacing_mm : voxel spacing in mm
    crop_box : nnU-Net's bounding box of the nonzero voxels
    """

    case: str
    reader: str
    image_hashes: tuple[str, ...]
    label_hash: str | None
    label_state: str
    raw_shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    crop_box: Box

    @property
    def shape_after_crop(self) -> tuple[int, ...]:
        """Voxels per raw axis after nnU-Net's crop."""
        return box_shape(self.crop_box)

    @property
    def relative_size_after_crop(self) -> float:
        """Share of the image's voxels that the crop keeps."""
        return float(np.prod(self.shape_after_crop) / np.prod(self.raw_shape))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CaseFacts:
        """Build the facts from the JSON value of their ``asdict``."""
        lists = {key: tuple(content[key]) for key in ("image_hashes", "raw_shape", "spacing_mm")}
        return cls(**{**content, **lists, "crop_box": as_box(content["crop_box"])})
