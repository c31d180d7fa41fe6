"""Files and folders that a user gave: whatever the system says about one becomes a sentence that names it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnunet_al.errors import DatasetError

_POINTERS = (b"version https://git-lfs", b"/annex/objects/")
_POINTER_BYTES = 1024  # a pointer is shorter


@contextmanager
def user_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors of reading ``path`` into DatasetError, with what is there instead and the way out."""
    try:
        yield
    except OSError as error:
        raise DatasetError(f"{path} {_fault(path, error)}") from error


def read_user_json(path: Path) -> Any:
    """Read a JSON file, in UTF-8 with or without a byte order mark.

    Raises DatasetError if it cannot be read, is no JSON, or gives a key of one object twice, of which JSON's readers
    drop one without a word.
    """
    with user_errors(path):
        content = path.read_bytes()
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): correct it.") from error


def list_folder(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name; none if it does not exist.

    Raises DatasetError if something else is there, or it cannot be read.
    """
    if not os.path.lexists(folder):
        return []
    with user_errors(folder), os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def is_pointer(path: Path) -> bool:
    """Tell whether a file only names content that git-annex or Git LFS has not fetched."""
    try:
        return path.stat().st_size < _POINTER_BYTES and path.read_bytes().startswith(_POINTERS)
    except OSError:
        return False


def _fault(path: Path, error: OSError) -> str:
    if path.is_symlink() and not path.exists():
        return (
            f"is a link to {path.readlink()}, where nothing is: fetch its content (git annex get, datalad get), "
            "correct the link or remove it."
        )
    if not os.path.lexists(path):
        return "does not exist: correct the path, or put the file there."
    if path.is_dir() and isinstance(error, IsADirectoryError):
        return "is a folder and not a file: put the file that it holds in its place, or remove it."
    if isinstance(error, NotADirectoryError):
        return "is no folder: put a folder in its place, or remove it."
    advice = "check its permissions" if isinstance(error, PermissionError) else "check the disk, or replace it"
    return f"cannot be read ({error.strerror or error}): {advice}."


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if twice := [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]:
        raise ValueError(f"it gives {twice[0]!r} twice")
    return dict(pairs)
