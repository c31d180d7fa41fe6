"""The import gate: whether a returned file answers for the regions asked for, and what it says there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from nnunet_al.annotation.label_names import Labelled, label_segments
from nnunet_al.annotation.resemblance import mean_dice, renumbered
from nnunet_al.annotation.segments import Segment
from nnunet_al.annotation.volumes import Grid, place, read_segmentation
from nnunet_al.errors import ReturnError
from nnunet_al.pool.boxes import Box, to_slices

_SHARED_TABLE = "labels.txt"  # lies there for all files, so that it says nothing on how this one was numbered
_SAME_CASE, _OTHER_CASE = 0.9, 0.5  # mean Dice with a pre-segmentation above which a file was drawn on it, or not


@dataclass(frozen=True)
class Asked:
    """What was handed out of one case.

    Attributes
    ----------
    case : its id
    grid : the image's grid
    handed_out_kji : the pre-segmentation, zeros where there was none
    earlier_kji : what is annotated already, ``ignore`` elsewhere
    ignore : value of unannotated voxels
    boxes : rank of each region -> its voxels, half-open, k first
    """

    case: str
    grid: Grid
    handed_out_kji: np.ndarray
    earlier_kji: np.ndarray
    ignore: int
    boxes: Mapping[int, Box]


@dataclass(frozen=True)
class Reading:
    """What a returned file says of one case.

    Attributes
    ----------
    case : its id
    labels_kji : the reader's labels (int32) inside the reviewed regions and where nothing was annotated before,
        ``ignore`` elsewhere
    ranks : the regions that it answers for, sorted; also such as were annotated in full before
    edits_outside : voxels outside of all regions asked for that differ from what was handed out, and voxels drawn
        outside of the image; none of them is used
    disagreements : voxels of the reviewed regions annotated earlier with another label, which stands
    remarks : sentences for the reader and the campaign's owner
    """

    case: str
    labels_kji: np.ndarray
    ranks: tuple[int, ...]
    edits_outside: int
    disagreements: int
    remarks: tuple[str, ...]


def examine(
    path: Path,
    asked: Asked,
    segments: Sequence[Segment],
    reviewed: Collection[int],
    others: Mapping[str, Asked],
    names: Mapping[int, str] | None = None,
) -> Reading:
    """Take what a returned file says inside the reviewed regions, or refuse it with the first of the reasons.

    The file is read, never changed. What it says counts where it was asked for, is marked as reviewed and nothing was
    annotated before; everything else is reported and not used.

    Parameters
    ----------
    path : Path
        the returned file
    asked : Asked
        what was handed out of the case that the file is named by
    segments : sequence of Segment
        the dataset's foreground
    reviewed : collection of int
        ranks marked as reviewed; those of other cases do not matter
    others : mapping from str to Asked
        cases of the batch, looked up one by one where the file does not look like its own case; may be lazy
    names : mapping from int to str, optional
        number -> name of a segment, known from elsewhere for a file that names nothing itself

    Raises
    ------
    ReturnError
        if the file cannot be read, bears the mark of another case, does not lie on the image's grid, has segments or
        numbers that are none of the dataset's, or classes that overlap, looks like another case's file or a renumbered
        one, or no region of the case is marked as reviewed.
    """
    file = read_segmentation(path)
    if file.case is not None and file.case != asked.case:
        raise ReturnError(
            f"{path.name} was drawn on the case {file.case} and not on {asked.case}: return it under that case's name."
        )
    placed = [_placed(path, image, asked.grid, file.may_be_cropped) for image in file.layers]
    own_names = file.names
    if own_names is None and names is not None:
        own_names = {(0, value): name for value, name in names.items()}
    labelled = label_segments(path, [layer_kji for layer_kji, _ in placed], own_names, segments, asked.ignore)
    if file.case is None:
        _check_case(path, labelled.labels_kji, asked, others)
    if own_names is None or (file.table is not None and file.table.name == _SHARED_TABLE):
        _check_numbers(path, labelled.labels_kji, asked.handed_out_kji, segments)
    ranks = tuple(sorted(set(reviewed) & asked.boxes.keys()))
    if not ranks:
        raise ReturnError(
            f"{path.name} is not marked as reviewed in batch.csv: write yes under reviewed for each region of "
            f"{asked.case} that is done."
        )
    return _inside(asked, labelled, segments, ranks, sum(beyond for _, beyond in placed))


def _placed(path: Path, image: SimpleITK.Image, grid: Grid, may_be_cropped: bool) -> tuple[np.ndarray, int]:
    try:
        return place(image, grid, may_be_cropped)
    except ReturnError as error:
        raise ReturnError(f"{path.name}: {error}") from None


def _check_case(path: Path, labels_kji: np.ndarray, asked: Asked, others: Mapping[str, Asked]) -> None:
    if mean_dice(labels_kji, asked.handed_out_kji) >= _OTHER_CASE:
        return
    for case in others:
        handed_out_kji = others[case].handed_out_kji
        if handed_out_kji.shape == labels_kji.shape and mean_dice(labels_kji, handed_out_kji) > _SAME_CASE:
            raise ReturnError(
                f"{path.name} looks like the pre-segmentation of {case} and not like that of {asked.case}: return it "
                "under that case's name, or as .seg.nrrd, which says what it was drawn on."
            )


def _check_numbers(path: Path, labels_kji: np.ndarray, handed_out_kji: np.ndarray, segments: Sequence[Segment]) -> None:
    pair = renumbered(labels_kji, handed_out_kji)
    if pair is not None:
        of = {segment.value: segment.name for segment in segments}
        drawn, handed_out = pair
        raise ReturnError(
            f"{path.name} names no segments, and its number {drawn} ({of[drawn]}) lies where {handed_out} "
            f"({of.get(handed_out)}) was handed out, as if it had been renumbered on export: return the .seg.nrrd, or "
            f"put the label table beside it as {path.name.partition('.')[0]}.label."
        )


def _inside(
    asked: Asked, labelled: Labelled, segments: Sequence[Segment], ranks: tuple[int, ...], beyond_image: int
) -> Reading:
    """What the labels say in the reviewed regions, with remarks on all that is not used."""
    labels_kji = labelled.labels_kji
    reviewed_kji = _union(labels_kji.shape, (asked.boxes[rank] for rank in ranks))
    asked_kji = _union(labels_kji.shape, asked.boxes.values())
    annotated_kji = asked.earlier_kji != asked.ignore
    changed_kji = labels_kji != asked.handed_out_kji
    new_kji = reviewed_kji & ~annotated_kji
    edits_outside = int((changed_kji & ~asked_kji).sum()) + beyond_image
    disagreements = int((labels_kji != asked.earlier_kji)[reviewed_kji & annotated_kji].sum())
    told = list(labelled.remarks)
    if left := sorted(asked.boxes.keys() - set(ranks)):
        told.append(f"Not marked as reviewed and not taken: rank {', '.join(map(str, left))}.")
    if edits_outside:
        told.append(f"Changes outside of the regions asked for are not used: {_voxels(edits_outside)}.")
    if disagreements:
        told.append(f"What was annotated earlier stands where the file has another label: {_voxels(disagreements)}.")
    if lost := _lost(labels_kji[new_kji], asked.handed_out_kji[new_kji], segments):
        told.append(f"Handed out in the reviewed regions and no longer there: {', '.join(lost)}.")
    if not new_kji.any():
        told.append("Everything in the reviewed regions was annotated before.")
    elif not changed_kji[new_kji].any():
        told.append("Nothing was changed in the reviewed regions: they are taken as they were handed out.")
    inside_kji = np.where(new_kji, labels_kji, np.int32(asked.ignore))
    return Reading(asked.case, inside_kji, ranks, edits_outside, disagreements, tuple(told))


def _lost(labels_N: np.ndarray, handed_out_N: np.ndarray, segments: Sequence[Segment]) -> list[str]:
    gone = set(np.unique(handed_out_N[handed_out_N != 0])) - set(np.unique(labels_N[labels_N != 0]))
    return [f"'{segment.name}'" for segment in segments if segment.value in gone]


def _union(shape: tuple[int, ...], boxes: Iterable[Box]) -> np.ndarray:
    inside_kji = np.zeros(shape, bool)
    for box in boxes:
        inside_kji[to_slices(box)] = True
    return inside_kji


def _voxels(number: int) -> str:
    return f"{number} voxel{'' if number == 1 else 's'}"
