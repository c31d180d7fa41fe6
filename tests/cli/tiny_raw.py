"""A raw dataset of eight tiny cases, and what people do to such datasets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

NAME = "Dataset501_Tiny"
CASES = tuple(f"case_{number:02d}" for number in range(8))
ENDING = ".nii.gz"


def make_raw(folder: Path, cases: tuple[str, ...] = CASES, ending: str = ENDING, **changes: Any) -> Path:
    """Write images and labels of 6 x 16 x 16 voxels with two classes; `changes` are keys of dataset.json."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number, case in enumerate(cases):
        image_zyx, label_zyx = case_arrays(number)
        save(image_zyx, folder / f"imagesTr/{case}_0000{ending}")
        save(label_zyx, folder / f"labelsTr/{case}{ending}")
    content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "organ": 1, "core": 2}}
    write_json(folder / "dataset.json", {**content, "numTraining": len(cases), "file_ending": ending, **changes})
    return folder


def case_arrays(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (float32) and label (uint8) of a case."""
    label_zyx = np.zeros((6, 16, 16), np.uint8)
    label_zyx[1:5, 4:11, 5:12], label_zyx[2:4, 6:9, 7:10] = 1, 2
    noise_zyx = np.random.default_rng(number).normal(100, 10, label_zyx.shape)
    return (noise_zyx + 60 * label_zyx).astype(np.float32), label_zyx


def save(array_zyx: np.ndarray, path: Path, **header: Any) -> None:
    """Write an array with spacing (1, 1, 2.5); `header` are further values, like `Direction`."""
    image = SimpleITK.GetImageFromArray(array_zyx)
    for name, value in {"Spacing": (1, 1, 2.5)[: image.GetDimension()], **header}.items():
        getattr(image, f"Set{name}")(value)
    SimpleITK.WriteImage(image, str(path), True)


def load(path: Path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def change_json(folder: Path, **changes: Any) -> None:
    path = folder / "dataset.json"
    content = {**json.loads(path.read_text()), **changes}
    write_json(path, {key: value for key, value in content.items() if value is not ...})


def listed(folder: Path, **changes: dict[str, Any]) -> None:
    """Declare all cases under the key `dataset`, with `changes` of single entries (... removes a key)."""
    cases = {case: {"images": [f"imagesTr/{case}_0000{ENDING}"], "label": f"labelsTr/{case}{ENDING}"} for case in CASES}
    for case, change in changes.items():
        cases[case] = {key: value for key, value in {**cases[case], **change}.items() if value is not ...}
    change_json(folder, dataset=cases)


def image(folder: Path, number: int = 3) -> Path:
    return folder / f"imagesTr/{CASES[number]}_0000{ENDING}"


def label(folder: Path, number: int = 3) -> Path:
    return folder / f"labelsTr/{CASES[number]}{ENDING}"


def into_folder(path: Path) -> None:
    """Put a file into a folder of its own name, as unpackers do."""
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    (path / "x.nii.gz").write_bytes(content)


def unlink_to(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def rename_case(folder: Path, old: str, new: str) -> None:
    for path in folder.glob(f"*Tr/{old}*"):
        path.rename(path.with_name(new + path.name[len(old) :]))


def converted(path: Path, ending: str) -> None:
    """Write a file again with another ending, and remove it."""
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(path).replace(ENDING, ending))
    path.unlink()


def roots_for(folder: Path) -> dict[str, str]:
    """Make nnU-Net's folders; return the variables that name them."""
    names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {name: os.fspath(folder / name) for name in names}
