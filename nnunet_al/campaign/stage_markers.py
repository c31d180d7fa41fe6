"""The marker of a stage that is done: its seconds, and the checksums of the files that it left."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from nnunet_al.campaign.stages import place_of
from nnunet_al.checksums import checksums, is_intact, is_sealed, seal
from nnunet_al.files import read_json, write_json


@dataclass(frozen=True)
class Marker:
    """The content of a marker that could be read.

    Attributes
    ----------
    files : path, relative to the round's folder, -> checksum
    complete : false for markers of earlier versions, which hold no checksums
    """

    files: dict[str, str]
    seconds: float
    complete: bool


def write_marker(markers: Path, name: str, seconds: float, files: Iterable[Path]) -> dict[str, str]:
    """Mark a stage as done; return the checksums of its files by their paths relative to the round's folder."""
    found = checksums(markers.parent, sorted(files))
    write_json(markers / f"{name}.json", seal({"stage": name, "seconds": seconds, "files": found}))
    return found


def read_marker(markers: Path, name: str) -> Marker | None:
    """Read a marker; None if it cannot be read, is damaged or is that of another stage."""
    try:
        content = read_json(markers / f"{name}.json")
        if content["stage"] != name or not is_sealed(content):
            return None
        return Marker(dict(content.get("files", {})), float(content["seconds"]), "files" in content)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def damaged_files(markers: Path, name: str, files: Callable[[], Iterable[Path]]) -> list[Path]:
    """Return those of a stage's files that are gone or not as it left them; its marker if that cannot be read.

    A marker of an earlier version gets the checksums of ``files()``, as they are now.
    """
    path = markers / f"{name}.json"
    marker = read_marker(markers, name)
    if marker is None:
        return [path]
    if not marker.complete:
        there = sorted(files())
        if not (gone := [file for file in there if not file.is_file()]) and there:
            write_marker(markers, name, marker.seconds, there)
        return gone
    left = {markers.parent / relative: expected for relative, expected in marker.files.items()}
    return [file for file, expected in left.items() if not is_intact(file, expected)]


def matching(markers: Path, patterns: Sequence[str]) -> list[str]:
    """Return the names of the stages that are done and fit one of the patterns, in the order of a round."""
    names = [path.stem for path in markers.glob("[!.]*.json")]
    return sorted((n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)), key=place_of)


def is_as_left(markers: Path, name: str, file: Path) -> bool:
    """Tell whether a file is as a stage left it; also where its marker holds no checksum of it.

    A file that is not there is not.
    """
    if not file.is_file():
        return False
    marker = read_marker(markers, name)
    expected = None if marker is None else marker.files.get(Path(os.path.relpath(file, markers.parent)).as_posix())
    return expected is None or is_intact(file, expected)


def mark_anew(markers: Path, name: str) -> None:
    """Take over the present checksums of a stage's files, after one of them was written again on purpose."""
    marker = read_marker(markers, name)
    if marker is not None and marker.complete:
        write_marker(markers, name, marker.seconds, [markers.parent / file for file in marker.files])
