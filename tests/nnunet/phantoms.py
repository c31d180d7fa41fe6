"""Tiny volumes with a body, two organs and, on demand, everything that nnU-Net's preprocessing reacts to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 -- the name everybody knows

LABELS = {"background": 0, "organ": 1, "lesion": 2}
REGIONS = {"background": 0, "whole": [1, 2], "lesion": 2}


def write_volume(path: Path, array_zyx: np.ndarray, spacing_zyx: tuple[float, ...], origin=(1.0, -2.0, 3.0)) -> None:
    image = sitk.GetImageFromArray(array_zyx)
    image.SetSpacing([float(s) for s in spacing_zyx[::-1]])
    image.SetOrigin(origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), True)


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    grid = np.indices(shape)
    return sum(((g - c) / (radius * n)) ** 2 for g, c, n in zip(grid, centre, shape, strict=True)) < 1


def phantom(seed: int, shape: tuple[int, ...], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return image and label (z, y, x); `kind` is mri (fills its frame), brain (small, zero around) or ct."""
    rng = np.random.default_rng(seed)
    middle = [n / 2 + rng.uniform(-1, 1) for n in shape]
    organ, lesion = ball(shape, middle, 0.22), ball(shape, [m + 1 for m in middle], 0.11)
    label = organ.astype(np.uint8)
    label[lesion] = 2
    image = 100 + 60 * organ + 90 * lesion + rng.normal(0, 12, shape)
    if kind == "ct":
        image -= 400
    if kind == "brain":
        image[~ball(shape, middle, 0.32)] = 0
    else:
        image[:2], image[:, -3:] = 0, 0
        label[:2], label[:, -3:] = 0, 0
    return np.rint(image).astype(np.int16), label


def make_dataset(
    folder: Path,
    kind: str = "mri",
    n_cases: int = 4,
    n_channels: int = 1,
    labels: dict | None = None,
    spacings: tuple[tuple[float, ...], ...] = ((1.0, 1.1, 3.1), (1.2, 1.0, 2.9), (0.9, 1.0, 3.3)),
) -> Path:
    """Write `folder` (DatasetXXX_Name) with cases of different shapes, and return it.

    The largest spacing is not on the first axis, so that nnU-Net transposes.
    """
    names = {"ct": ["CT"], "mri": ["T1"], "brain": ["T1"]}[kind] + [f"T{c + 2}" for c in range(n_channels - 1)]
    for index in range(n_cases):
        shape = (20 + index % 3, 18 + 2 * (index % 2), 11 + index % 2)
        spacing = spacings[index % len(spacings)]
        image, label = phantom(index, shape, kind)
        for channel in range(n_channels):
            shifted = np.where(image != 0, image + 7 * channel, 0).astype(np.int16)
            write_volume(folder / "imagesTr" / f"case_{index:02d}_{channel:04d}.nii.gz", shifted, spacing)
        write_volume(folder / "labelsTr" / f"case_{index:02d}.nii.gz", label, spacing)
    content = {
        "channel_names": {str(c): name for c, name in enumerate(names)},
        "labels": labels or LABELS,
        "numTraining": n_cases,
        "file_ending": ".nii.gz",
    }
    if labels == REGIONS:
        content["regions_class_order"] = [1, 2]
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def read_volume(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def compose(label_file: Path, image_file: Path, boxes, ignore: int, path: Path, outside=()) -> Path:
    """Write the label with everything ignored but `boxes` (None: everything annotated) and what is outside the body.

    `outside` lists voxels that get class 1 although the image is zero there.
    """
    from scipy.ndimage import binary_fill_holes

    label, image = read_volume(label_file), sitk.ReadImage(str(image_file))
    inside = binary_fill_holes(sitk.GetArrayFromImage(image) != 0)
    annotated = np.full(label.shape, boxes is None)
    for box in boxes or ():
        annotated[tuple(slice(low, high) for low, high in box)] = True
    composed = np.where(annotated | ~inside, label, ignore).astype(np.uint8)
    composed[~inside & ~annotated] = 0
    for voxel in outside:
        composed[voxel] = 1
    write_volume(path, composed, image.GetSpacing()[::-1], image.GetOrigin())
    return path
