"""Segments that readers paint, with values, names and colours, and the label tables of annotation programs."""

from __future__ import annotations

import colorsys
import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from nnunet_al.errors import DatasetError, ReturnError
from nnunet_al.files import write_text
from nnunet_al.nnunet.raw_dataset import LabelValue

_OKABE_ITO = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_GOLDEN_RATIO = 0.6180339887498949
_NOT_PAINTED = {"background", "ignore"}
_ITK_SNAP_HEADER = """\
################################################
# ITK-SnAP Label Description File
# File format:\x20
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:\x20
#    IDX:   Zero-based index\x20
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    IDX:   Label mesh visibility (0 or 1)
#  LABEL:   Label description\x20
################################################
"""
_ITK_SNAP_LINE = re.compile(r"\s*(\d+)" + 3 * r"\s+\d+" + r'\s+[\d.]+\s+[01]\s+[01]\s+"([^"]*)"\s*')
_SLICER_LINE = re.compile(r"\s*(\d+)\s+(\"[^\"]*\"|'[^']*'|\S+)" + 4 * r"\s+[\d.]+" + r"\s*")
_SLICER_COLUMNS = ("labelvalue", "name")


@dataclass(frozen=True)
class Segment:
    """A segment that readers paint: value, name and colour (red, green, blue, each 0 to 255)."""

    value: int
    name: str
    colour: tuple[int, int, int]


def segments_of(labels: Mapping[str, LabelValue]) -> tuple[Segment, ...]:
    """Return the foreground values of a dataset (:attr:`RawDataset.labels`), sorted, with names and colours.

    A value has its declared name. With nnU-Net's regions, the name of a value joins all regions that contain it, the
    largest first: in ``{"whole tumour": (1, 2, 3), "tumour core": (2, 3), "enhancing": 3}`` the value 2 is "whole
    tumour + tumour core"; values in the same regions are numbered.

    Raises DatasetError if a name cannot be written into a header, or two names differ only by case, blanks or
    underscores.
    """
    painted = [
        (_cleaned(name), value if isinstance(value, tuple) else (value,))
        for name, value in labels.items()
        if name not in _NOT_PAINTED
    ]
    _check_distinct(name for name, _ in painted)
    painted.sort(key=lambda item: -len(item[1]))  # keeps the declared order among regions of one size
    values = sorted({part for _, parts in painted for part in parts} - {0})
    names = {value: " + ".join(name for name, parts in painted if value in parts) for value in values}
    shared = {name: [value for value in values if names[value] == name] for name in names.values()}
    numbered = {
        value: name if len(shared[name]) == 1 else f"{name} ({shared[name].index(value) + 1})"
        for value, name in names.items()
    }
    _check_distinct(numbered.values())
    return tuple(
        Segment(value, name, colour)
        for (value, name), colour in zip(numbered.items(), colours(len(values)), strict=True)
    )


def normalised(name: str) -> str:
    """Return a name without differences that programs make: case, type of quotes, repeated blanks and underscores."""
    return re.sub(r"[\s_]+", " ", name.replace('"', "'")).strip().casefold()


def colours(number: int) -> list[tuple[int, int, int]]:
    """Return different colours, first those of Okabe and Ito; a longer list begins with the shorter one."""
    found = list(_OKABE_ITO[:number])
    for step in count():
        if len(found) >= number:
            return found
        red, green, blue = colorsys.hls_to_rgb(
            step * _GOLDEN_RATIO % 1, (0.35, 0.6, 0.78)[step % 3], (0.9, 0.6)[step % 2]
        )
        colour = (round(255 * red), round(255 * green), round(255 * blue))
        if colour not in found:
            found.append(colour)
    raise AssertionError("colours never end")


def write_label_file(path: Path, segments: Sequence[Segment]) -> None:
    """Write ITK-SNAP's label description file, in which 0 is the "Clear Label".

    Raises StorageError if it cannot be written.
    """
    lines = [_itk_snap_line(0, (0, 0, 0), 0, "Clear Label")]
    lines += [_itk_snap_line(each.value, each.colour, 1, each.name.replace('"', "'")) for each in segments]
    write_text(path, _ITK_SNAP_HEADER + "".join(lines))


def read_label_file(path: Path) -> dict[int, str]:
    """Read value -> name from a label table of ITK-SNAP (``.label``, ``.txt``) or 3D Slicer (``.ctbl``, ``.csv``).

    3D Slicer writes underscores instead of blanks into ``.ctbl``; :func:`normalised` removes this difference.

    Raises ReturnError if it cannot be read, is neither format, or gives one value two names.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ReturnError(f"{path.name} cannot be read as a label table: save it again as UTF-8 text.") from error
    pairs = _slicer_csv(text) if path.suffix.lower() == ".csv" else _lines(text)
    names: dict[int, str] = {}
    if pairs is None or any(names.setdefault(value, name) != name for value, name in pairs) or not names:
        raise ReturnError(
            f"{path.name} is not a label table of ITK-SNAP or 3D Slicer: save it again from the program, or remove it."
        )
    return names


def _lines(text: str) -> list[tuple[int, str]] | None:
    pairs = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ITK_SNAP_LINE.fullmatch(line) or _SLICER_LINE.fullmatch(line)
        if match is None:
            return None
        pairs.append((int(match[1]), match[2].strip("\"'")))
    return pairs


def _slicer_csv(text: str) -> list[tuple[int, str]] | None:
    rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    header = [cell.strip().lower().replace("_", "") for cell in rows[0]] if rows else []
    if any(column not in header for column in _SLICER_COLUMNS):
        return None
    value_at, name_at = (header.index(column) for column in _SLICER_COLUMNS)
    pairs = []
    for row in rows[1:]:
        if len(row) <= max(value_at, name_at) or not row[value_at].strip().isdecimal():
            return None
        if row[name_at].strip():  # 3D Slicer's tables may leave it empty
            pairs.append((int(row[value_at]), row[name_at].strip()))
    return pairs


def _itk_snap_line(value: int, colour: tuple[int, int, int], shown: int, name: str) -> str:
    red, green, blue = colour
    return f'  {value:3d}   {red:3d}  {green:3d}  {blue:3d}  {shown:7d}  {shown}  {shown}    "{name}"\n'


def _cleaned(name: str) -> str:
    cleaned = " ".join(name.split())
    if not cleaned or not cleaned.isprintable():
        raise DatasetError(
            f"The label name {name!r} in dataset.json cannot be shown to readers: use letters and digits."
        )
    return cleaned


def _check_distinct(names: Iterable[str]) -> None:
    seen = {normalised(name): name for name in ("background", "ignore", "Clear Label")}
    for name in names:
        if normalised(name) in seen:
            raise DatasetError(
                f"The labels {seen[normalised(name)]!r} and {name!r} differ only by case, blanks or underscores, which"
                " annotation programs change: rename one in dataset.json."
            )
        seen[normalised(name)] = name
