"""The batch as a folder that is handed to readers: images, pre-segmentations, outlines, tables and instructions."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from nnunet_al.annotation.how_to import how_to
from nnunet_al.annotation.manifest import MANIFEST, Batch, CaseHandOut, case_entry, manifest_of
from nnunet_al.annotation.region_outline import markup, outline
from nnunet_al.annotation.segments import write_label_file
from nnunet_al.annotation.volumes import write_nifti, write_seg_nrrd
from nnunet_al.errors import DatasetError, StorageError
from nnunet_al.files import hash_file, storage_errors, write_atomically, write_json, write_table, write_text
from nnunet_al.new_folder import new_folder
from nnunet_al.pool.boxes import Region

SHEET = "batch.csv"
RETURNED = "returned"


def write_batch_folder(folder: Path, batch: Batch, cases: Iterable[CaseHandOut]) -> None:
    """Write all files for the readers into a new folder, complete or not at all, with one case in memory at a time.

    All paths in it are relative and there are no links, so it can be packed, sent and moved.

    Raises DatasetError if ``folder`` exists, or an image is missing or does not match its hash; StorageError if the
    disk is full or the folder cannot be written.
    """
    with new_folder(folder) as unfinished:
        entries: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        for handed in cases:
            entries.append(_write_case(unfinished, batch, handed))
            rows += sheet_rows(batch, handed)
        write_tables(unfinished, batch, entries, rows)
        write_table(unfinished / "cases.csv", _iterator_rows(entries))
        files = [image["file"] for image in entries[0]["images"]]
        case_ids = [entry["case"] for entry in entries]
        instructions = how_to(batch, len(rows), case_ids, len(files), ending_of(Path(files[0])))
        write_text(unfinished / "HOWTO.txt", instructions)
        with storage_errors(folder):
            (unfinished / RETURNED).mkdir()


def copy_images(folder: Path, handed: CaseHandOut) -> list[str]:
    """Copy a case's images into ``folder`` as ``<case>_0000.nii.gz`` and so on; return the names.

    Raises DatasetError if an image is missing or does not match its hash; StorageError if a copy cannot be written.
    """
    names = []
    for channel, (image, sha256) in enumerate(zip(handed.images, handed.image_hashes, strict=True)):
        names.append(f"{handed.case}_{channel:04d}{ending_of(image)}")
        _copy(image, folder / names[-1], sha256)
    return names


def sheet_rows(batch: Batch, handed: CaseHandOut) -> list[dict[str, Any]]:
    """Return the rows of a case in ``batch.csv``, one per region; the reader fills in the last two columns."""
    return [
        {
            "rank": region.rank,
            "case": handed.case,
            "region": Region(handed.case, region.box_kji).name,
            "score": "" if region.score is None else f"{region.score:.6g}",
            "strategy": batch.strategy,
            "reviewed": "",
            "minutes": "",
        }
        for region in handed.regions
    ]


def write_tables(
    folder: Path,
    batch: Batch,
    entries: Sequence[dict[str, Any]],
    rows: Sequence[dict[str, Any]],
    layout: str = "folder",
) -> None:
    """Write ``batch.csv`` (``rows``, sorted by rank), the manifest (``entries``) and the table of the segments."""
    assert rows, "a batch asks for at least one region"
    write_table(folder / SHEET, sorted(rows, key=itemgetter("rank")))
    write_json(folder / MANIFEST, manifest_of(batch, entries, layout))
    write_label_file(folder / "labels.txt", batch.segments)


def write_outlines(folder: Path, handed: CaseHandOut) -> list[str]:
    """Write ``<case>.nii.gz`` with all outlines and ``<case>_<rank>.mrk.json`` with each box; return the names."""
    boxes = {region.rank: region.box_kji for region in handed.regions}
    assert min(boxes) >= 1, "0 is the background of an outline"
    names = [f"{handed.case}.nii.gz"]
    write_nifti(folder / names[0], outline(boxes, handed.grid.shape_kji), handed.grid, handed.case)
    for rank, box_kji in sorted(boxes.items()):
        names.append(f"{handed.case}_{rank}.mrk.json")
        write_json(folder / names[-1], markup(f"{handed.case} {rank}", box_kji, handed.grid))
    return names


def ending_of(image: Path) -> str:
    """Return the file ending that defines an image's format."""
    return ".nii.gz" if image.name.lower().endswith(".nii.gz") else image.suffix


def _write_case(folder: Path, batch: Batch, handed: CaseHandOut) -> dict[str, Any]:
    images = copy_images(folder / "images", handed)
    presegmentations = [f"{handed.case}.seg.nrrd", f"{handed.case}.nii.gz"]
    slicer, itk_snap = (folder / "preseg" / name for name in presegmentations)
    write_seg_nrrd(slicer, handed.labels_kji, handed.grid, batch.segments, handed.case)
    write_nifti(itk_snap, handed.labels_kji, handed.grid, handed.case)
    outlines = write_outlines(folder / "roi", handed)
    return case_entry(
        handed,
        [f"images/{name}" for name in images],
        [f"preseg/{name}" for name in presegmentations],
        [f"roi/{name}" for name in outlines],
    )


def _copy(image: Path, copy: Path, sha256: str) -> None:
    if not image.is_file():
        raise DatasetError(f"{image} is missing: put the image back, or take the case out of the dataset.")
    write_atomically(copy, lambda temporary: shutil.copyfile(image, temporary))
    if hash_file(copy) != sha256:
        if hash_file(image) != sha256:
            raise DatasetError(f"{image} is not the image that was scored: restore that one, or start a new campaign.")
        raise StorageError(f"{copy} could not be written whole: free some disk space and run the same command again.")


def _iterator_rows(entries: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the table for 3D Slicer's extension SlicerCaseIterator; paths are relative to the table."""
    n_channels = max(len(entry["images"]) for entry in entries)
    rows = []
    for entry in entries:
        files = [image["file"] for image in entry["images"]]
        more = {f"image_{channel}": files[channel] if channel < len(files) else "" for channel in range(1, n_channels)}
        mask = entry["presegmentation"]["files"][0]
        rows.append({"ID": entry["case"], "path": ".", "image": files[0], "mask": mask, **more})
    return rows
