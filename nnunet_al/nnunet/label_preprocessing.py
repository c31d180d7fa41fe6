"""Preprocess the composed label of one case as nnU-Net does, without reading the image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.nnunet.blosc_files import move_into_place, temporary_file_in, verified_write, write_pickle
from nnunet_al.nnunet.case_facts import CaseFacts
from nnunet_al.nnunet.geometry import case_geometry, planned_spacing
from nnunet_al.nnunet.image_store import StoredImage, common_dependencies, ensure_image, image_dependencies, image_key
from nnunet_al.nnunet.raw_dataset import CaseFiles
from nnunet_al.pool.boxes import Box, intersect, to_slices
from nnunet_al.pool.geometry import CaseGeometry, OutsideCropError


@dataclass(frozen=True)
class LabelJob:
    """The inputs for preprocessing the label of one case.

    Attributes
    ----------
    image : the stored image, preprocessed without a label
    folder : output folder
    boxes : annotated boxes (raw voxels), which should not be lost in resampling
    """

    files: CaseFiles
    label: Path
    image: StoredImage
    facts: CaseFacts
    plans: dict[str, Any]
    configuration: str
    dataset_json: dict[str, Any]
    folder: Path
    boxes: tuple[Box, ...] = ()


def label_dependencies(plans: Mapping[str, Any], configuration: str, dataset_json: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the settings that a preprocessed label depends on besides its files."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    chosen = PlansManager(dict(plans)).get_configuration(configuration)
    return {
        **common_dependencies(plans, chosen),
        "resampling": chosen.configuration["resampling_fn_seg"],
        "resampling_kwargs": chosen.configuration["resampling_fn_seg_kwargs"],
        "label_manager": plans.get("label_manager"),
        "labels": dataset_json["labels"],
        "regions_class_order": dataset_json.get("regions_class_order"),
    }


def preprocess_label(job: LabelJob) -> tuple[str, list[str]]:
    """Write ``<case>_seg.b2nd`` (int16, (1, *network shape)) and ``<case>.pkl`` as nnU-Net's preprocessor does.

    The steps are nnU-Net's: transpose, crop to the stored box, -1 where the label is 0 outside the nonzero mask,
    resample, sample the locations of each class with nnU-Net's seed. If labelled voxels outside the mask change the
    normalisation, a separate image is stored for this label.

    Returns the key of the stored image that belongs to this label, and one sentence per annotated class or box that is
    lost in resampling.

    Raises StorageError if the disk is full or cannot be written.
    """
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(dict(job.plans))
    chosen = manager.get_configuration(job.configuration)
    case = job.facts.case
    raw_1_xyz, _ = manager.image_reader_writer_class().read_seg(str(job.label))
    properties, nonzero_xyz = job.image.properties(), job.image.nonzero()
    seg_1_xyz = np.copy(raw_1_xyz).transpose([0, *(axis + 1 for axis in manager.transpose_forward)])
    box = tuple(slice(low, high) for low, high in properties["bbox_used_for_cropping"])
    seg_1_xyz = seg_1_xyz[(slice(None), *box)]
    image = _image_for(job, ~nonzero_xyz & (seg_1_xyz[0] != 0))
    seg_1_xyz[(seg_1_xyz == 0) & ~nonzero_xyz[None]] = -1
    cropped_1_xyz = seg_1_xyz

    geometry = case_geometry(job.facts, job.plans, job.configuration)
    spacing = [properties["spacing"][axis] for axis in manager.transpose_forward]
    planned = planned_spacing(chosen.spacing, spacing)
    seg_1_xyz = chosen.resampling_fn_seg(seg_1_xyz, np.array(geometry.network_shape), spacing, planned)

    preprocessor = chosen.preprocessor_class(verbose=False)
    properties["class_locations"] = preprocessor._sample_foreground_locations(
        seg_1_xyz, _classes_to_locate(manager.get_label_manager(job.dataset_json)), verbose=False
    )
    seg_1_xyz = preprocessor.modify_seg_fn(seg_1_xyz, manager, job.dataset_json, chosen)
    seg_1_xyz = np.ascontiguousarray(seg_1_xyz.astype(np.int16))

    blocks, chunks = comp_blosc2_params(seg_1_xyz.shape, tuple(chosen.patch_size), seg_1_xyz.itemsize)
    path = job.folder / f"{case}_seg.b2nd"
    temporary = temporary_file_in(job.folder.parent, path.name)  # nnU-Net treats every file in its folder as a case
    with verified_write(temporary, seg_1_xyz, path):
        nnUNetDatasetBlosc2.save_seg(seg_1_xyz, os.fspath(temporary.with_suffix("")), chunks, blocks)
    move_into_place(temporary, path)
    write_pickle(job.folder / f"{case}.pkl", properties, job.folder.parent)
    lost = _lost_classes(job, raw_1_xyz, cropped_1_xyz, seg_1_xyz) + _lost_boxes(job, geometry, raw_1_xyz, seg_1_xyz)
    return image.key, lost


def _image_for(job: LabelJob, outside_xyz: np.ndarray) -> StoredImage:
    dependencies = image_dependencies(job.plans, job.configuration)
    if not any(dependencies["use_mask"]) or not outside_xyz.any():
        return job.image
    key = image_key(job.facts, dependencies, outside_xyz)
    stored = StoredImage(job.image.folder, job.image.case, key)
    ensure_image(job.files, stored, job.plans, job.configuration, job.dataset_json, outside_xyz)
    return stored


def _classes_to_locate(labels: Any) -> list[Any]:
    """List the classes or regions whose locations nnU-Net samples; with an ignore label also all annotated voxels."""
    classes = list(labels.foreground_regions if labels.has_regions else labels.foreground_labels)
    return [*classes, [-1, *labels.all_labels]] if labels.has_ignore_label else classes


def _lost_classes(job: LabelJob, raw: np.ndarray, cropped: np.ndarray, seg: np.ndarray) -> list[str]:
    sentences = []
    for name, value in job.dataset_json["labels"].items():
        values = value if isinstance(value, (list, tuple)) else [value]
        if name == "ignore" or np.isin(seg, values).any():
            continue
        if np.isin(cropped, values).any():
            sentences.append(
                f"Case {job.facts.case}: the annotation of {name} is lost in resampling to the planned spacing, "
                "so the network never sees it; annotate thicker regions or use the 2d configuration."
            )
        elif values != [0] and np.isin(raw, values).any():  # outside the nonzero mask 0 is not an annotation
            sentences.append(
                f"Case {job.facts.case}: the annotation of {name} lies where the image is zero, which nnU-Net crops "
                "away, so the network never sees it; check whether the label belongs to this image."
            )
    return sentences


def _lost_boxes(job: LabelJob, geometry: CaseGeometry, raw: np.ndarray, seg: np.ndarray) -> list[str]:
    ignore = job.dataset_json["labels"].get("ignore")
    sentences = []
    for box in job.boxes:
        try:
            network_box = geometry.to_network(box)
        except OutsideCropError:  # the box holds zeros only, so nothing can be lost
            continue
        seen = intersect(box, geometry.raw_crop_box)  # what lies outside is cropped and not lost in resampling
        was_annotated = seen is not None and (raw[0][to_slices(seen)] != ignore).any()
        if was_annotated and not (seg[0][to_slices(network_box)] != ignore).any():
            where = ",".join(f"{low}:{high}" for low, high in box)
            sentences.append(
                f"Case {job.facts.case}: the annotation of [{where}] is lost in resampling to the planned spacing; "
                "annotate thicker regions or use the 2d configuration."
            )
    return sentences
