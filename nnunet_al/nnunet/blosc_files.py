"""Arrays in nnU-Net's blosc2 format and pickles beside them, complete or absent."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from nnunet_al.errors import StorageError
from nnunet_al.files import put_in_place, storage_errors, temporary_sibling


def open_array(path: Path) -> Any:
    """Open a stored array lazily; slicing it gives numpy arrays."""
    mapped = {} if os.name == "nt" else {"mmap_mode": "r"}
    return blosc2.open(urlpath=os.fspath(path), mode="r", dparams={"nthreads": 1}, **mapped)


def read_pickle(path: Path) -> dict[str, Any]:
    """Read the properties of a case that this package or nnU-Net has written."""
    with path.open("rb") as file:
        return pickle.load(file)


def temporary_in(folder: Path, name: str) -> Path:
    """Name a temporary file in ``folder``, for a file whose own folder must never hold a stranger; a left-over goes."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(folder / name)
    temporary.unlink(missing_ok=True)
    return temporary


@contextmanager
def written_intact(temporary: Path, array: np.ndarray, path: Path) -> Iterator[None]:
    """Let blosc2 write ``array`` to ``temporary`` within the block, then read it back, for blosc2 overlooks full disks.

    Raises
    ------
    StorageError
        if what can be read back is not ``array``; the sentence names ``path``, which the file is meant for.
    """
    sentence = f"{path} could not be written intact: free some disk space and run the same command again."
    try:
        with storage_errors(path):
            yield
            intact = np.array_equal(open_array(temporary)[:], array)
    except (RuntimeError, ValueError) as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(sentence) from error
    if not intact:
        temporary.unlink(missing_ok=True)
        raise StorageError(sentence)


def write_pickle(path: Path, content: dict[str, Any], temporary_folder: Path) -> None:
    """Write ``content`` to ``path`` in one step, by way of a temporary file in ``temporary_folder``."""
    temporary = temporary_in(temporary_folder, path.name)
    with storage_errors(path):
        try:
            with temporary.open("wb") as file:
                pickle.dump(content, file)
            move_into_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def move_into_place(temporary: Path, path: Path) -> None:
    """Flush ``temporary`` to the disk and let it take the place of ``path`` on the same file system."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        put_in_place(temporary, path)


def link_or_copy(source: Path, path: Path, temporary_folder: Path, symbolic: bool = False) -> None:
    """Put ``source`` at ``path``: as a symbolic link if asked, else as a hard link, else as a copy, in one step.

    A path that is this file already stays untouched.
    """
    if path.exists() and path.samefile(source):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_in(temporary_folder, path.name)
    ways: list[Callable[..., None]] = [os.symlink, os.link] if symbolic else [os.link]
    with storage_errors(path):
        try:
            for way in ways:
                try:
                    way(source.resolve(), temporary)
                    break
                except OSError:  # a file system without such links, or the border of one
                    continue
            else:
                shutil.copyfile(source, temporary)
            put_in_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
