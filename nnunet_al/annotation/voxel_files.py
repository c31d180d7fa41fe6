"""Files of voxels that a returned header names: MetaImage and NRRD may keep their voxels in files of their own."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_al.errors import ReturnError
from nnunet_al.files import hash_file, hash_json

_MOST_BYTES = 1 << 20  # of a header
_NRRD_FIELD = re.compile(r"data ?file:(?!=) *(.*)", re.IGNORECASE)
_META_FIELD = re.compile(r"\s*ElementDataFile\s*[=:]\s*(.*?)\s*")
_LISTS = {"nrrd": re.compile(r"LIST(?: \d+)?"), "meta": re.compile(r"LIST(?:\s+2D)?")}
_NUMBER = re.compile(r"%0?\d*d")
_MOST_FILES = 1 << 16
_PAIR = {b"ni1\0", b"ni2\0"}  # the magic of NIfTI headers whose voxels are in an .img file


@dataclass(frozen=True)
class VoxelFiles:
    """A returned file and those beside it that hold its voxels.

    Attributes
    ----------
    path : the returned file
    header : its own bytes without the lines that name other files; empty where it holds its voxels itself
    others : the files of its voxels, in order; empty where it holds its voxels itself
    """

    path: Path
    header: bytes = b""
    others: tuple[Path, ...] = ()

    def hash(self) -> str:
        """Return the SHA-256 of all that the volume is read from, whatever the files of its voxels are called.

        That of a file which holds its voxels itself is `hash_file`.

        Raises ReturnError if a file cannot be read.
        """
        try:
            if not self.others:
                return hash_file(self.path)
            return hash_json({"header": self.header.hex(), "voxels": [hash_file(other) for other in self.others]})
        except OSError as error:
            raise _unreadable(self.path, error) from error


def voxel_files(path: Path) -> VoxelFiles:
    """Return the files that a volume is read from; only headers are read.

    Files of voxels count in the header's folder and below it, since nothing else was returned.

    Raises ReturnError if one of them is missing or lies somewhere else, or if the header names them in a way that is
    not known.
    """
    try:
        lines = _header(path)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error
    for number, line in enumerate(lines):
        if (value := _data_field(path, line)) is None:
            continue
        if _is_meta(path) and value.lower() == "local":
            return VoxelFiles(path)
        names = _names(path, value, [name for name in lines[number + 1 :] if name.strip()])
        listed = _LISTS[_kind(path)].fullmatch(value) is not None
        kept = lines[:number] if listed or _is_meta(path) else [*lines[:number], *lines[number + 1 :]]
        others = tuple(_inside(path, name) for name in names)
        return VoxelFiles(path, "\n".join(kept).encode("utf-8", "surrogateescape"), others)
    return VoxelFiles(path)


def _is_meta(path: Path) -> bool:
    return path.name.lower().endswith((".mha", ".mhd"))


def _kind(path: Path) -> str:
    return "meta" if _is_meta(path) else "nrrd"


def _header(path: Path) -> list[str]:
    """Return the lines of a header of text up to its end; those of other formats are none."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        _refuse_pair(path)
        return []
    with path.open("rb") as file:
        if not _is_meta(path) and file.read(4) != b"NRRD":
            return []
        file.seek(0)
        content = file.read(_MOST_BYTES)
    lines: list[str] = []
    for raw in content.split(b"\n"):
        line = raw.removesuffix(b"\r").decode("utf-8", "surrogateescape")
        if not line.strip() and not _is_meta(path):
            break
        lines.append(line)
    return lines


def _refuse_pair(path: Path) -> None:
    """Refuse a NIfTI header that is not followed by its voxels: which file these are read from depends on the reader.

    Raises ReturnError.
    """
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        start = file.read(348)
    if start[344:348] in _PAIR or start[4:8] in _PAIR:
        raise ReturnError(f"{path.name} is a header whose voxels are in another file: save it as one .nii.gz.")


def _data_field(path: Path, line: str) -> str | None:
    match = (_META_FIELD if _is_meta(path) else _NRRD_FIELD).fullmatch(line)
    return match[1] if match else None


def _names(path: Path, value: str, following: Sequence[str]) -> list[str]:
    """Return the names that a header gives: one, a list below it, or a pattern with its first and last number."""
    words = value.split()
    if _LISTS[_kind(path)].fullmatch(value):
        names = [name.strip() for name in following]
    elif "%" in value:
        names = _numbered(words)
    else:
        names = [] if words[:1] == ["LIST"] or value in ("", "-") else [value]
    if not names or len(names) > _MOST_FILES:
        raise ReturnError(
            f"{path.name} names the files of its voxels in a way that is not known ({value[:40]!r}): save the "
            "segmentation as one file."
        )
    return names


def _numbered(words: Sequence[str]) -> list[str]:
    """Return the names of ``slice_%03d.raw 1 20 1``; nothing for other patterns, some of which crash MetaIO."""
    pattern, *numbers = words
    if not 3 <= len(numbers) <= 4 or not all(re.fullmatch(r"[+-]?\d+", number) for number in numbers):
        return []
    if len(_NUMBER.findall(pattern)) != 1 or pattern.count("%") != 1:
        return []
    first, last, step = (int(number) for number in numbers[:3])
    if step == 0 or abs(last - first) // abs(step) > _MOST_FILES:
        return []
    return [pattern % number for number in range(first, last + (1 if step > 0 else -1), step)]


def _inside(path: Path, name: str) -> Path:
    """Return the path of a file of voxels.

    Raises ReturnError if it is missing, or not in the folder of ``path`` or below it.
    """
    where = Path(name)
    other = path.parent / where
    outside = where.is_absolute() or ".." in where.parts
    if not outside and not other.is_file():
        raise ReturnError(f"{path.name} has its voxels in {name}, which is missing: return that file beside it.")
    if outside or not other.resolve().is_relative_to(path.parent.resolve()):
        raise ReturnError(
            f"{path.name} has its voxels in {name}, which is not in the folder that was returned: save the "
            "segmentation as one file, or return that file beside it."
        )
    return other


def _unreadable(path: Path, error: Exception) -> ReturnError:
    why = getattr(error, "strerror", None) or "it is cut short or damaged"
    return ReturnError(f"{path.name} cannot be read ({why}): save or copy it again.")
