"""A preprocessed dataset of four tiny volumes, made with nnU-Net's own preprocessor."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NAME = "Dataset901_Tiny"
PLANS = "nnUNetPlans"
CASES = ("tiny_0", "tiny_1", "tiny_2", "tiny_3")
IGNORE = 3
SHAPE = (20, 24, 22)
PATCH = (16, 16, 16)


@dataclass(frozen=True)
class TinyDataset:
    """nnU-Net's three roots around one preprocessed dataset, and what it was made of."""

    raw: Path
    preprocessed: Path
    results: Path
    name: str = NAME
    plans_name: str = PLANS
    configuration: str = "3d_fullres"

    @property
    def folder(self) -> Path:
        return self.preprocessed / self.name

    @property
    def data_folder(self) -> Path:
        return self.folder / f"{self.plans_name}_{self.configuration}"

    @property
    def plans(self) -> dict[str, Any]:
        return json.loads((self.folder / f"{self.plans_name}.json").read_text())

    @property
    def dataset_json(self) -> dict[str, Any]:
        return json.loads((self.folder / "dataset.json").read_text())


def phantom(number: int, channels: int, ignore: bool) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid in air (exact zeros) with a bright structure and a brighter core; the upper half not annotated."""
    rng = np.random.default_rng(number)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    body = z**2 + y**2 + x**2 < 0.9
    centre = rng.uniform(-0.3, 0.3, 3)
    distance = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    label = np.where(distance < 0.25, 2, np.where(distance < 0.5, 1, 0)) * body
    image = np.stack([(5 + 3 * label * (-1) ** c + rng.normal(0, 0.5, SHAPE)) * body for c in range(channels)])
    if ignore:
        label[(z > 0.2) & body] = IGNORE
    return image.astype(np.float32), label.astype(np.uint8)


def _plans(dimensions: int, channels: int) -> dict[str, Any]:
    return {
        "data_identifier": f"{PLANS}_{'2d' if dimensions == 2 else '3d_fullres'}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(PATCH[-dimensions:]),
        "median_image_size_in_voxels": [float(n) for n in SHAPE[-dimensions:]],
        "spacing": [1.0] * dimensions,
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [True] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "batch_dice": dimensions == 2,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": [4, 6, 8],
                "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
                "kernel_sizes": [[3] * dimensions] * 3,
                "strides": [[1] * dimensions, [2] * dimensions, [2] * dimensions],
                "n_conv_per_stage": [1, 1, 1],
                "n_conv_per_stage_decoder": [1, 1],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }


def build_tiny(
    root: Path, channels: int = 1, ignore: bool = True, regions: bool = False, configuration: str = "3d_fullres"
) -> TinyDataset:
    """Write a raw dataset and its plans, and preprocess it in this process."""
    import SimpleITK
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    tiny = TinyDataset(root / "raw", root / "preprocessed", root / "results", configuration=configuration)
    raw = tiny.raw / NAME
    for folder in (raw / "imagesTr", raw / "labelsTr", tiny.data_folder, tiny.results):
        folder.mkdir(parents=True)
    labels: dict[str, Any] = {"background": 0, "whole": [1, 2] if regions else 1, "core": 2}
    dataset = {
        "channel_names": {str(c): "MRI" for c in range(channels)},
        "labels": labels | ({"ignore": IGNORE} if ignore else {}),
        "numTraining": len(CASES),
        "file_ending": ".nii.gz",
    } | ({"regions_class_order": [1, 2]} if regions else {})
    plans = {
        "dataset_name": NAME,
        "plans_name": PLANS,
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": list(SHAPE),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"2d": _plans(2, channels), "3d_fullres": _plans(3, channels)},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(c): {} for c in range(channels)},
    }
    splits = [{"train": list(CASES[:3]), "val": list(CASES[3:])}]
    (raw / "dataset.json").write_text(json.dumps(dataset))
    (tiny.folder / "dataset.json").write_text(json.dumps(dataset))
    (tiny.folder / f"{PLANS}.json").write_text(json.dumps(plans))
    (tiny.folder / "dataset_fingerprint.json").write_text("{}")
    (tiny.folder / "splits_final.json").write_text(json.dumps(splits))
    manager = PlansManager(plans)
    for number, case in enumerate(CASES):
        image, label = phantom(number, channels, ignore)
        files = [str(raw / "imagesTr" / f"{case}_{c:04d}.nii.gz") for c in range(channels)]
        for channel, file in zip(image, files, strict=True):
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(channel), file)
        label_file = str(raw / "labelsTr" / f"{case}.nii.gz")
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(label), label_file)
        with contextlib.redirect_stdout(io.StringIO()):
            DefaultPreprocessor(verbose=False).run_case_save(
                str(tiny.data_folder / case),
                files,
                label_file,
                manager,
                manager.get_configuration(configuration),
                dataset,
            )
    shutil.copytree(raw / "labelsTr", tiny.folder / "gt_segmentations")
    return tiny


@pytest.fixture(scope="session")
def _built(tmp_path_factory):
    return {}, tmp_path_factory


@pytest.fixture
def make_tiny_preprocessed(_built, tmp_path):
    """A function (channels=, ignore=, regions=, configuration=) -> a copy of such a dataset that a test may change."""
    cache, factory = _built

    def make(**variant: Any) -> TinyDataset:
        key = tuple(sorted(variant.items()))
        if key not in cache:
            cache[key] = build_tiny(factory.mktemp("tiny"), **variant)
        source = cache[key]
        root = tmp_path / f"tiny_{len(list(tmp_path.iterdir()))}"
        shutil.copytree(source.raw.parent, root)
        return TinyDataset(root / "raw", root / "preprocessed", root / "results", configuration=source.configuration)

    return make


@pytest.fixture
def tiny_preprocessed(make_tiny_preprocessed) -> TinyDataset:
    """One channel, two classes and an ignore label, for 3d_fullres."""
    return make_tiny_preprocessed()
