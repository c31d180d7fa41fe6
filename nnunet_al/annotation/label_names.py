"""Mapping of a returned file's segments to the dataset's labels: by name, or by number in files without names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_al.annotation.segments import Segment, normalised
from nnunet_al.errors import ReturnError

_BACKGROUND = Segment(0, "background", (0, 0, 0))
_INSTEAD_OF_IGNORE = (
    "leave background unpainted, and do not mark a region as reviewed if you cannot identify its structures."
)
_Given = tuple[int, int, Segment]  # layer, number in the file, segment of the dataset


@dataclass(frozen=True)
class Labelled:
    """The labels (k, j, i) of a file, and remarks on unexpected segments."""

    labels_kji: np.ndarray
    remarks: tuple[str, ...]


def label_segments(
    path: Path,
    layers_kji: Sequence[np.ndarray],
    names: Mapping[tuple[int, int], str] | None,
    segments: Sequence[Segment],
    ignore: int,
) -> Labelled:
    """Give each voxel the dataset's label of its segment.

    With ``names`` ((layer, number) -> segment name), segments are matched by name, exactly or else ignoring case,
    blanks and underscores; the numbers in the file do not matter (3D Slicer renumbers on export). Without names, the
    numbers are the dataset's. A file has several layers on the case's grid if its segments may overlap. ``segments``
    is the dataset's foreground; readers never paint the value ``ignore``.

    Raises ReturnError if voxels have a name or number that the dataset does not have, a class occurs twice, or classes
    overlap.
    """
    given, remarks = _given(path, layers_kji, names, segments, ignore)
    label_of_G = np.array([0, *(segment.value for *_, segment in given)], np.int32)  # 0: background
    owner_kji = np.zeros(layers_kji[0].shape, np.int32)  # 0: no segment, n: the n-th of ``given``
    for layer, layer_kji in enumerate(layers_kji):
        numbers = {value: n for n, (of_layer, value, _) in enumerate(given, start=1) if of_layer == layer}
        inside_kji = layer_kji != 0
        owner_N = np.array([*numbers.values()], np.int32)[np.searchsorted([*numbers], layer_kji[inside_kji])]
        before_N = owner_kji[inside_kji]
        if before_N.any():
            raise _overlap(path, before_N[before_N > 0], owner_N[before_N > 0], given)
        owner_kji[inside_kji] = owner_N
    return Labelled(label_of_G[owner_kji], remarks)


def _given(
    path: Path,
    layers_kji: Sequence[np.ndarray],
    names: Mapping[tuple[int, int], str] | None,
    segments: Sequence[Segment],
    ignore: int,
) -> tuple[list[_Given], tuple[str, ...]]:
    """Return (layer, number, segment) of all segments with voxels, and remarks."""
    present = [
        (layer, int(value))
        for layer, layer_kji in enumerate(layers_kji)
        for value in np.unique(layer_kji[layer_kji != 0])
    ]
    if names is None:
        return _by_number(path, present, segments, ignore), ()
    given = []
    for key in present:
        if key not in names:
            raise ReturnError(
                f"{path.name} has voxels with the number {key[1]}, which has no name: name the segment, or "
                "return the .seg.nrrd."
            )
        given.append((*key, _by_name(path, names[key], segments)))
    _check_twice(path, given, names)
    known = {normalised(segment.name) for segment in (_BACKGROUND, *segments)}
    unknown = sorted(
        {name for key, name in names.items() if key not in present and key[1] != 0 and normalised(name) not in known}
    )
    remarks = (f"Empty segments that the dataset does not have were ignored: {_quoted(unknown)}.",) if unknown else ()
    return given, remarks


def _by_number(
    path: Path, present: Sequence[tuple[int, int]], segments: Sequence[Segment], ignore: int
) -> list[_Given]:
    known = {segment.value: segment for segment in segments}
    values = {value for _, value in present}
    if ignore in values:
        raise ReturnError(
            f"{path.name} has voxels with the number {ignore}, which means not annotated and is never painted: "
            f"{_INSTEAD_OF_IGNORE}"
        )
    if strange := sorted(values - known.keys()):
        numbered = ", ".join(f"{segment.value} ({segment.name})" for segment in segments)
        raise ReturnError(
            f"{path.name} names no segments and has voxels with the number {', '.join(map(str, strange))}, but the "
            f"dataset's numbers are {numbered}: use these, or return the .seg.nrrd."
        )
    return [(layer, value, known[value]) for layer, value in present]


def _by_name(path: Path, name: str, segments: Sequence[Segment]) -> Segment:
    candidates = (_BACKGROUND, *segments)
    exact = [segment for segment in candidates if segment.name == name]
    alike = exact or [segment for segment in candidates if normalised(segment.name) == normalised(name)]
    if len(alike) == 1:
        return alike[0]
    known = _quoted([segment.name for segment in segments])
    if normalised(name) == "ignore":
        raise ReturnError(f"{path.name} has voxels in a segment '{name}', which is never painted: {_INSTEAD_OF_IGNORE}")
    raise ReturnError(
        f"{path.name} has voxels in a segment '{name}', which is {'none' if not alike else 'more than one'} of the "
        f"dataset's: name it one of {known}, or remove it."
    )


def _check_twice(path: Path, given: Sequence[_Given], names: Mapping[tuple[int, int], str]) -> None:
    seen: dict[int, str] = {}
    for layer, value, segment in given:
        name = names[layer, value]
        if segment.value in seen:
            raise ReturnError(
                f"{path.name} has two segments of the class '{segment.name}' (named '{seen[segment.value]}' and "
                f"'{name}'): merge them into one and remove the other."
            )
        seen[segment.value] = name


def _overlap(path: Path, a_N: np.ndarray, b_N: np.ndarray, given: Sequence[_Given]) -> ReturnError:
    pairs, counts = np.unique([a_N, b_N], axis=1, return_counts=True)
    most = int(counts.argmax())
    a, b = (given[int(n) - 1][2].name for n in pairs[:, most])
    return ReturnError(
        f"In {path.name}, {counts[most]} voxels lie in '{a}' and in '{b}': let each voxel belong to one segment only."
    )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
