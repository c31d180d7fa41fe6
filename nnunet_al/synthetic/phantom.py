"""Phantom datasets: raw nnU-Net datasets of synthetic images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from nnunet_al.errors import DatasetError
from nnunet_al.files import write_json
from nnunet_al.new_folder import new_folder
from nnunet_al.seeding import generator
from nnunet_al.synthetic.anatomy import LESION, ORGAN, Phantom, PhantomDesign, draw_phantom
from nnunet_al.synthetic.image_file import FILE_ENDING, write_image


def make_phantom_dataset(
    folder: Path,
    cases: int = 16,
    seed: int = 0,
    shape: Sequence[int] = (40, 48, 32),
    spacing_mm: Sequence[float] = (1.0, 1.0, 2.0),
    *,
    spacing_variation: float = 0.15,
    modality: str = "MRI",
    channels: int = 1,
    regions: bool = False,
    test_cases: int = 0,
) -> Path:
    """Write a raw dataset of phantoms for nnU-Net (images, labels, ``dataset.json``), and return its folder.

    Case ``i`` depends on the seed and the properties of a case, not on the number of cases. By default the coarse axis
    is the last of the array, so that nnU-Net transposes; spacing differs between cases, so that it resamples; air
    around the body is exactly zero, so that it crops. Origins and directions differ between cases.

    Parameters
    ----------
    folder
        the dataset's folder, ``.../DatasetXXX_Name``; it appears when it is complete
    cases, test_cases
        numbers of cases in ``imagesTr``/``labelsTr`` and in ``imagesTs``/``labelsTs``
    seed
        the same seed and arguments give the same images
    shape, spacing_mm, spacing_variation, modality, channels
        as in `PhantomDesign`: voxels and mm in the order z, y, x
    regions
        labels as nnU-Net regions, ``whole`` = organ and lesion, ``core`` = lesion; else the classes ``organ`` and
        ``lesion``

    Raises DatasetError if the folder exists or an argument is invalid; StorageError if it cannot be written, for
    example because the disk is full; an incomplete folder is removed.
    """
    folder = Path(folder)
    with new_folder(folder) as unfinished:
        if cases < 1 or test_cases < 0:
            raise DatasetError(
                f"A dataset of {cases} training and {test_cases} test cases is impossible: ask for one or more."
            )
        if len(shape) != 3 or len(spacing_mm) != 3:
            raise DatasetError("A phantom has three axes: give shape and spacing as three numbers, z y x.")
        design = PhantomDesign(
            shape=(int(shape[0]), int(shape[1]), int(shape[2])),
            spacing_mm=(float(spacing_mm[0]), float(spacing_mm[1]), float(spacing_mm[2])),
            spacing_variation=spacing_variation,
            modality=modality,
            channels=channels,
            lesion_in_organ=regions,
        )
        for part, count in (("Tr", cases), ("Ts", test_cases)):
            for index in range(count):
                rng = generator(seed, 0, f"phantom {part} {index}")
                name = f"phantom_{index:03d}" if part == "Tr" else f"phantom_test_{index:03d}"
                _write_case(unfinished, part, name, draw_phantom(design, rng), rng)
        write_json(unfinished / "dataset.json", dataset_json(folder.name, design, cases, regions))
    return folder


def dataset_json(name: str, design: PhantomDesign, cases: int, regions: bool) -> dict[str, Any]:
    """Return the content of nnU-Net's ``dataset.json`` for phantoms."""
    content: dict[str, Any] = {
        "name": name,
        "description": "Phantoms made by nnunet-al; no patient data.",
        "channel_names": {str(index): channel for index, channel in enumerate(design.channel_names)},
        "labels": {"background": 0, "organ": ORGAN, "lesion": LESION},
        "numTraining": cases,
        "file_ending": FILE_ENDING,
    }
    if regions:
        content["labels"] = {"background": 0, "whole": [ORGAN, LESION], "core": LESION}
        content["regions_class_order"] = [ORGAN, LESION]
    return content


def _write_case(folder: Path, part: str, name: str, phantom: Phantom, rng: np.random.Generator) -> None:
    origin = np.round(rng.uniform(-100, 100, 3), 2).tolist()
    # as from scanners: flipped axes, slightly oblique
    flips = np.diag(rng.choice([-1.0, 1.0]) * np.array([1.0, 1.0, rng.choice([-1.0, 1.0])]))
    direction = Rotation.from_euler("z", rng.uniform(-8, 8), degrees=True).as_matrix() @ flips
    files = [(f"images{part}", f"{name}_{channel:04d}", image) for channel, image in enumerate(phantom.image_C_zyx)]
    for sub_folder, stem, array_zyx in [*files, (f"labels{part}", name, phantom.label_zyx)]:
        path = folder / sub_folder / f"{stem}{FILE_ENDING}"
        write_image(path, array_zyx, phantom.spacing_mm[::-1], origin, direction.ravel().tolist())
