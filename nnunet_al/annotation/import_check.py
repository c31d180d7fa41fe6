"""Check of a returned file against the handed-out case, and its labels in the reviewed regions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK

from nnunet_al.annotation.expected_case import ExpectedCase
from nnunet_al.annotation.grids import Grid, place
from nnunet_al.annotation.label_names import Labelled, label_segments
from nnunet_al.annotation.label_overlap import renumbered
from nnunet_al.annotation.segments import Segment
from nnunet_al.annotation.swapped_cases import check_looks, check_tags
from nnunet_al.annotation.volumes import read_header, read_segmentation
from nnunet_al.errors import ReturnError
from nnunet_al.text import count

_SHARED_TABLE = "labels.txt"  # one table for all files, so it does not prove the numbering of a single file


@dataclass(frozen=True)
class Reading:
    """The accepted content of a returned file.

    Attributes
    ----------
    case : its id
    labels_kji : the reader's labels (int32) in the reviewed regions where nothing was annotated before, ``ignore``
        elsewhere
    ranks : ranks of the reviewed regions, sorted, including regions that were already annotated completely
    edits_outside : number of voxels outside all requested regions that differ from the handed-out labels, and of voxels
        drawn outside the image; they are not used
    disagreements : number of voxels in the reviewed regions with another, earlier label, which is kept
    remarks : sentences for the reader and the campaign's owner
    """

    case: str
    labels_kji: np.ndarray
    ranks: tuple[int, ...]
    edits_outside: int
    disagreements: int
    remarks: tuple[str, ...]


def check_returned(
    path: Path,
    asked: ExpectedCase,
    segments: Sequence[Segment],
    reviewed: Collection[int],
    others: Iterable[ExpectedCase],
    names: Mapping[int, str] | None = None,
) -> Reading:
    """Return the labels of a returned file in the reviewed regions, or raise an error for the first problem.

    The file is read, never changed. Its labels count inside requested regions whose rank is ``reviewed``, where nothing
    was annotated before; all other labels are reported and not used. ``asked`` is the handed-out case with the file's
    name, ``segments`` the dataset's foreground. If the file does not resemble its case, it is compared with ``others``
    of the batch, one by one, so these may be generated; a remark says if nothing tells it from theirs. ``names``
    (number -> segment name) are for a file without names.

    Raises ReturnError if the file cannot be read, is marked as another case, is not on the image's grid, has segments
    or numbers that the dataset does not have, has overlapping classes, resembles another case's file or a renumbered
    one, has most of its changes in another case's regions, or no region of the case is marked as reviewed.
    """
    is_tagged = check_tags(path, read_header(path), asked, others)
    file = read_segmentation(path, asked.grid)
    placed = [_placed(path, image, asked.grid, file.may_be_cropped) for image in file.layers]
    own_names = file.names
    if own_names is None and names is not None:
        own_names = {(0, value): name for value, name in names.items()}
    labelled = label_segments(path, [layer_kji for layer_kji, _ in placed], own_names, segments, asked.ignore)
    doubt = check_looks(path, labelled.labels_kji, asked, others, is_tagged)
    if own_names is None or (file.table is not None and file.table.name == _SHARED_TABLE):
        _check_numbers(path, labelled.labels_kji, asked.handed_out_kji, segments)
    ranks = tuple(sorted(set(reviewed) & asked.boxes.keys()))
    if not ranks:
        raise ReturnError(
            f"{path.name} is not marked as reviewed in batch.csv: write yes under reviewed for each region of "
            f"{asked.case} that is done."
        )
    reading = _inside(asked, labelled, segments, ranks, sum(beyond for _, beyond in placed))
    return reading if doubt is None else replace(reading, remarks=(*reading.remarks, doubt))


def _placed(path: Path, image: SimpleITK.Image, grid: Grid, may_be_cropped: bool) -> tuple[np.ndarray, int]:
    try:
        return place(image, grid, may_be_cropped)
    except ReturnError as error:
        raise ReturnError(f"{path.name}: {error}") from None


def _check_numbers(path: Path, labels_kji: np.ndarray, handed_out_kji: np.ndarray, segments: Sequence[Segment]) -> None:
    pair = renumbered(labels_kji, handed_out_kji)
    if pair is not None:
        of = {segment.value: segment.name for segment in segments}
        drawn, handed_out = pair
        raise ReturnError(
            f"{path.name} names no segments, and its number {drawn} ({of[drawn]}) lies where {handed_out} "
            f"({of.get(handed_out)}) was handed out, so it seems to be renumbered: return the .seg.nrrd, or "
            f"put the label table beside it as {path.name.partition('.')[0]}.label."
        )


def _inside(
    asked: ExpectedCase, labelled: Labelled, segments: Sequence[Segment], ranks: tuple[int, ...], beyond_image: int
) -> Reading:
    """Return the labels in the reviewed regions, with remarks on everything that is not used."""
    labels_kji = labelled.labels_kji
    reviewed_kji = asked.inside(ranks)
    asked_kji = asked.inside()
    annotated_kji = asked.earlier_kji != asked.ignore
    changed_kji = labels_kji != asked.handed_out_kji
    new_kji = reviewed_kji & ~annotated_kji
    edits_outside = int((changed_kji & ~asked_kji).sum()) + beyond_image
    disagreements = int((labels_kji != asked.earlier_kji)[reviewed_kji & annotated_kji].sum())
    remarks = list(labelled.remarks)
    if left := sorted(asked.boxes.keys() - set(ranks)):
        remarks.append(f"Not marked as reviewed and not used: rank {', '.join(map(str, left))}.")
    if edits_outside:
        remarks.append(f"Changes outside the requested regions are not used: {count(edits_outside, 'voxel')}.")
    if disagreements:
        voxels = count(disagreements, "voxel")
        remarks.append(f"Earlier annotations are kept where the file has another label: {voxels}.")
    if missing := _missing(labels_kji[new_kji], asked.handed_out_kji[new_kji], segments):
        remarks.append(f"Handed out in the reviewed regions and missing in the file: {', '.join(missing)}.")
    if not new_kji.any():
        remarks.append("Everything in the reviewed regions was annotated before.")
    elif not changed_kji[new_kji].any():
        remarks.append("Nothing was changed in the reviewed regions: they are used as they were handed out.")
    inside_kji = np.where(new_kji, labels_kji, np.int32(asked.ignore))
    return Reading(asked.case, inside_kji, ranks, edits_outside, disagreements, tuple(remarks))


def _missing(labels_N: np.ndarray, handed_out_N: np.ndarray, segments: Sequence[Segment]) -> list[str]:
    gone = set(np.unique(handed_out_N[handed_out_N != 0])) - set(np.unique(labels_N[labels_N != 0]))
    return [f"'{segment.name}'" for segment in segments if segment.value in gone]
