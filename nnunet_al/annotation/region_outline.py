"""Marks of the regions for readers: outlines in a label image, and boxes as markups for 3D Slicer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_al.annotation.grids import Grid
from nnunet_al.pool.boxes import Box, box_shape, to_slices

_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_COLOUR = (0.8, 0.475, 0.655)
_THICK = 3  # along an axis with fewer voxels there is no voxel between two borders


def outline(boxes: Mapping[int, Box], shape_kji: Sequence[int]) -> np.ndarray:
    """Return an image (k, j, i) with the rank (at least 1) of a box at the outermost voxels inside it, 0 elsewhere.

    Along an axis where a box has one or two voxels no border is drawn, so that the outline of a slice is a frame and
    does not hide it; a box that is thin along all axes is filled. Where outlines overlap, the smaller rank is visible.
    """
    outline_kji = np.zeros(tuple(shape_kji), np.uint16)
    for rank in sorted(boxes, reverse=True):
        inside_kji = outline_kji[to_slices(boxes[rank])]
        thick = [axis for axis, length in enumerate(box_shape(boxes[rank])) if length >= _THICK]
        for axis in thick:
            border = np.moveaxis(inside_kji, axis, 0)
            border[0] = border[-1] = rank
        if not thick:
            inside_kji[:] = rank
    return outline_kji


def markup(name: str, box_kji: Box, grid: Grid) -> dict[str, Any]:
    """Return a box as the content of a ``.mrk.json`` with one ROI, which 3D Slicer shows in all views.

    The ROI reaches from the outer faces of the first voxels to those of the last, in LPS and millimetres; the columns
    of ``orientation`` are its axes, always right-handed.
    """
    corners_8_mm = grid.box_corners_mm(box_kji)
    centre_mm = corners_8_mm.mean(0).tolist()
    axes = np.reshape(grid.direction, (3, 3)).copy()
    if np.linalg.det(axes) < 0:
        axes[:, 2] *= -1
    orientation = axes.ravel().tolist()
    size_mm = [length * step for length, step in zip(box_shape(box_kji)[::-1], grid.spacing_mm, strict=True)]
    roi = {
        "name": name,
        "type": "ROI",
        "roiType": "Box",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": True,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": 1,
        "center": centre_mm,
        "orientation": orientation,
        "size": size_mm,
        "insideOut": False,
        "controlPoints": [
            {
                "id": "1",
                "label": name,
                "description": "",
                "associatedNodeID": "",
                "position": centre_mm,
                "orientation": orientation,
                "selected": True,
                "locked": True,
                "visibility": True,
                "positionStatus": "defined",
            }
        ],
        "measurements": [],
        "display": {
            "visibility": True,
            "opacity": 1.0,
            "color": _COLOUR,
            "selectedColor": _COLOUR,
            "propertiesLabelVisibility": True,
            "pointLabelsVisibility": False,
            "handlesInteractive": False,
        },
    }
    return {"@schema": _SCHEMA, "markups": [roi]}
