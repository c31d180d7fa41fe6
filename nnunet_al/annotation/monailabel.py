"""The batch as a datastore for MONAI Label: images, pre-segmentations, the ranking, and an app to serve it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from nnunet_al.annotation.hand_out import copy_images, sheet_rows, write_outlines, write_tables
from nnunet_al.annotation.manifest import Batch, CaseHandOut, batch_facts, case_entry
from nnunet_al.annotation.monailabel_app import write_app
from nnunet_al.annotation.monailabel_how_to import how_to
from nnunet_al.annotation.monailabel_labels import DATASTORE, FINAL
from nnunet_al.annotation.segments import Segment
from nnunet_al.annotation.volumes import write_nifti, write_seg_nrrd
from nnunet_al.errors import CampaignError, StorageError
from nnunet_al.files import hash_file, storage_errors, write_atomically, write_json, write_text
from nnunet_al.new_folder import new_folder

FORMAT = "monailabel"
"""Value of ``format`` in the manifest of such a folder."""

_ORIGINAL = "original"
_IMAGE_ENDING = ".nii.gz"


def write_datastore(folder: Path, batch: Batch, cases: Iterable[CaseHandOut]) -> None:
    """Write a batch as a datastore of MONAI Label 0.8, complete or not at all, with one case in memory at a time.

    ``monailabel start_server --app FOLDER/app --studies FOLDER`` serves it. The images are at the top level as
    ``<case>.nii.gz``: the server offers every image there for annotation, and supports one file per image. Of several
    channels, the first one is therefore the image, a 3D volume on the label's grid, and the others are in ``images/``;
    3D Slicer would read a 4D file as a sequence, without a volume to draw on. ``labels/original`` holds the
    pre-segmentations, and MONAI Label writes submitted labels to ``labels/final``. The regions with their ranks and
    scores are in ``datastore_v2.json``, under ``info`` and ``nnunet_al`` of each image. Manifest, table and outlines
    are those of :func:`write_batch_folder`.

    Raises CampaignError if several readings per region are requested: MONAI Label keeps one label per image;
    DatasetError if ``folder`` exists, or an image is missing or does not match its hash; StorageError if the disk is
    full or the folder cannot be written.
    """
    if batch.readings > 1:
        raise CampaignError(
            f"MONAI Label keeps one label per image, not {batch.readings} readings: hand out the batch as a folder"
            " (-format folder), or ask for one reading."
        )
    with new_folder(folder) as unfinished:
        with storage_errors(folder):
            (unfinished / "labels" / FINAL).mkdir(parents=True)
        entries: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        objects: dict[str, Any] = {}
        present: dict[str, list[str]] = {}
        for handed in cases:
            found = [segment for segment in batch.segments if (handed.labels_kji == segment.value).any()]
            present[handed.case] = [segment.name for segment in found]
            entries.append(_write_case(unfinished, batch, handed))
            objects[handed.case] = _object(unfinished, batch, entries[-1], found)
            rows += sheet_rows(batch, handed)
        description = f"{batch.dataset}, round {batch.round}, {batch.strategy}"
        ranks = {case: entry["image"]["info"]["nnunet_al"]["rank"] for case, entry in objects.items()}
        datastore = {"name": batch.campaign, "description": description, "images_dir": ".", "labels_dir": "labels"}
        write_json(unfinished / DATASTORE, {**datastore, "objects": objects})
        write_app(unfinished / "app", batch.campaign, description, batch.segments, ranks, present)
        write_tables(unfinished, batch, entries, rows, FORMAT)
        write_text(unfinished / "HOWTO.txt", how_to(batch, len(rows), list(objects), len(entries[0]["images"])))


def _write_case(folder: Path, batch: Batch, handed: CaseHandOut) -> dict[str, Any]:
    """Write the files of one case and return its entry in the manifest."""
    beside = folder / "images"
    first, *others = copy_images(beside, handed)
    image = f"{handed.case}{_IMAGE_ENDING}"
    _move_as_nifti(beside / first, folder / image)
    if not others and not any(beside.iterdir()):
        beside.rmdir()
    original = f"labels/{_ORIGINAL}/{handed.case}{_IMAGE_ENDING}"
    write_nifti(folder / original, handed.labels_kji, handed.grid, handed.case)
    backup = f"preseg/{handed.case}.seg.nrrd"  # models of other apps may overwrite labels/original
    write_seg_nrrd(folder / backup, handed.labels_kji, handed.grid, batch.segments, handed.case)
    outlines = write_outlines(folder / "roi", handed)
    images = [image, *(f"images/{name}" for name in others)]
    return case_entry(handed, images, [original, backup], [f"roi/{name}" for name in outlines])


def _move_as_nifti(source: Path, path: Path) -> None:
    """Move an image to its place, converted to compressed NIfTI if needed: MONAI Label supports few formats."""
    if source.name.endswith(_IMAGE_ENDING):
        source.replace(path)
        return

    def convert(temporary: Path) -> None:
        sentence = f"{path} could not be written whole: free some disk space and run the same command again."
        try:
            image = SimpleITK.ReadImage(source)
            SimpleITK.WriteImage(image, temporary, useCompression=True)
            with gzip.open(temporary) as file:  # SimpleITK reads a truncated file without an error
                while file.read(1 << 20):
                    pass
            back = SimpleITK.ReadImage(temporary)
        except (RuntimeError, OSError, EOFError, zlib.error) as error:
            raise StorageError(sentence) from error
        voxels_kji, back_kji = (SimpleITK.GetArrayViewFromImage(each) for each in (image, back))
        expected_kji = np.where(np.isfinite(voxels_kji), voxels_kji, 0)  # SimpleITK reads NaN and infinity as 0
        if not np.array_equal(expected_kji, back_kji):
            raise StorageError(sentence)

    write_atomically(path, convert)
    source.unlink()


def _object(folder: Path, batch: Batch, entry: dict[str, Any], present: list[Segment]) -> dict[str, Any]:
    """Return MONAI Label's entry of an image and its labels; it uses the top keys of ``info`` itself."""
    image = entry["images"][0]["file"]
    regions = sorted(entry["regions"], key=lambda region: region["rank"])
    first = regions[0]["rank"]
    ours = {
        **batch_facts(batch),
        "rank": first,
        "regions": regions,
        "images": [each["file"] for each in entry["images"]],
        "outlines": entry["outlines"],
        "reviewed": False,
    }
    info = {
        "name": image,
        "checksum": f"SHA256:{hash_file(folder / image)}",
        "epistemic_entropy": 1 / first,  # MONAI Label's strategy Epistemic starts with the largest value
        "nnunet_al": ours,
    }
    original = {
        "name": image,
        "label_info": [{"name": segment.name, "idx": segment.value} for segment in batch.segments],
        "params": {"label_names": {segment.name: segment.value for segment in present}},
    }
    return {
        "image": {"ext": _IMAGE_ENDING, "info": info},
        "labels": {_ORIGINAL: {"ext": _IMAGE_ENDING, "info": original}},
    }
