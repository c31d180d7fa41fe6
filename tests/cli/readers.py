"""Scripts that draw as people do: they open what was handed out and save it as 3D Slicer and ITK-SNAP would."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813 -- the name everybody knows
import slicerio


def in_3d_slicer(preseg: Path, drawn_kji: np.ndarray, target: Path, order: Sequence[str], crop: bool = False) -> None:
    """Open a pre-segmentation, draw, and save: segments in `order`, numbered anew from 1, as 3D Slicer does it."""
    content = slicerio.read_segmentation(str(preseg))
    segments = {segment["name"]: segment for segment in content["segments"]}
    voxels = np.zeros(drawn_kji.shape[::-1], np.uint8)
    for number, name in enumerate(order, start=1):
        voxels[drawn_kji.transpose(2, 1, 0) == segments[name]["labelValue"]] = number
    content["segments"] = [{**segments[name], "labelValue": number} for number, name in enumerate(order, start=1)]
    for segment in content["segments"]:
        segment.pop("layer", None)
    if crop and voxels.any():  # "crop to the segments' extent" is how 3D Slicer saves by default
        low = np.argwhere(voxels).min(0)
        high = np.argwhere(voxels).max(0) + 1
        voxels = voxels[tuple(slice(*side) for side in zip(low, high, strict=True))]
        matrix = np.array(content["ijkToLPS"])
        matrix[:3, 3] += matrix[:3, :3] @ low
        content["ijkToLPS"] = matrix
        content["referenceImageExtentOffset"] = low.tolist()
    slicerio.write_segmentation(str(target), {**content, "voxels": voxels})


def in_itk_snap(image: Path, drawn_kji: np.ndarray, target: Path) -> None:
    """Save labels on an image's grid with the numbers of the label file, as ITK-SNAP does it."""
    labels = sitk.GetImageFromArray(drawn_kji.astype(np.uint16))
    labels.CopyInformation(sitk.ReadImage(str(image)))
    sitk.WriteImage(labels, str(target), True)


def turned(source: Path, target: Path, axes: str) -> None:
    """Save a NIfTI file with its axes along `axes`, such as "PIR": other numbers in the header, the same in space."""
    image = nibabel.load(source)
    wanted = nibabel.orientations.axcodes2ornt(tuple(axes))
    way = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), wanted)
    nibabel.save(image.as_reoriented(way), target)


def mark(
    sheet: Path, target: Path, cases: Collection[str] | None = None, minutes: str = "", delimiter: str = ","
) -> None:
    """Save a table of marks with "yes" in the rows of `cases` (None: all), as a spreadsheet does it."""
    with sheet.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if cases is None or row["case"] in cases:
            row["reviewed"], row["minutes"] = "yes", minutes
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)
