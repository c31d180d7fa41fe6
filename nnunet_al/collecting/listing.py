"""The files in readers' folders, and the cases that they are named after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nnunet_al.annotation.hand_out import RETURNED
from nnunet_al.annotation.manifest import MANIFEST
from nnunet_al.annotation.volumes import stem_of
from nnunet_al.annotation.voxel_files import voxel_files
from nnunet_al.collecting.review_marks import normalized_name
from nnunet_al.errors import ReturnError

_OTHER_ENDINGS = (".csv", ".txt", ".ctbl", ".label", ".md", ".json", ".mrml")
RAW_VOXELS = (".raw", ".zraw")
_OTHER_HEADERS = (".nhdr", ".hdr")  # of voxels in other files; they are refused
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx"}


def returned_in(folder: Path) -> Path:
    """Return the folder of the returned files in ``folder``, which may be a whole batch folder, copied or moved."""
    return folder / RETURNED if (folder / MANIFEST).is_file() else folder


def readers_folders(base: Path) -> Iterator[Path]:
    """Yield the folders in a folder, sorted, without those of systems."""
    for path in sorted(base.iterdir()):
        if path.is_dir() and not path.name.startswith(".") and path.name.lower() not in _SYSTEM_FILES:
            yield path


def nested_files(folder: Path) -> Iterator[Path]:
    """Yield the segmentations in folders of a reader's folder, where they are not looked for."""
    for deeper in readers_folders(folder):
        yield from (path for path in sorted(deeper.rglob("*")) if path.is_file() and stem_of(path) is not None)


def label_files(folder: Path, named: set[Path]) -> list[Path]:
    """List the files of a folder that may be labels, without files of voxels.

    These are in ``named`` if a header in a folder above names them; those that headers in this folder name are added to
    it. Links that lead nowhere are listed, so that somebody is told.
    """
    there = [path for path in sorted(folder.iterdir()) if path.is_file() or (path.is_symlink() and not path.exists())]
    files = [path for path in there if not _is_no_label(path)]
    raw = {path.resolve() for path in files if path.name.lower().endswith(RAW_VOXELS)}
    for path in files:
        if stem_of(path) is not None:
            try:
                named.update(other.resolve() for other in voxel_files(path).others)
            except ReturnError:  # said when the file is read; raw voxels beside it may be its own
                named |= raw
        elif path.suffix.lower() in _OTHER_HEADERS:
            named |= raw
    return [path for path in files if stem_of(path) is not None or path.resolve() not in named]


def _is_no_label(path: Path) -> bool:
    name = path.name.lower()
    if name.startswith((".", "~")) or name in _SYSTEM_FILES:
        return True
    return stem_of(path) is None and name.endswith(_OTHER_ENDINGS)


def case_of(path: Path, cases: Sequence[str]) -> str | None:
    """Return the one case that a file is named after, in whatever spelling; None without one."""
    stem = normalized_name(stem_of(path) or "")
    alike = [case for case in cases if normalized_name(case) == stem]
    alike = alike or [case for case in cases if normalized_name(case).lower() == stem.lower()]
    return alike[0] if len(alike) == 1 else None
