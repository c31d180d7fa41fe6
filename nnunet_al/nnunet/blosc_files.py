"""Arrays in nnU-Net's blosc2 format and their pickles, written completely or not at all."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.errors import StorageError
from nnunet_al.files import put_in_place, storage_errors, temporary_sibling


def open_array(path: Path) -> Any:
    """Open a stored array lazily; slicing it gives numpy arrays."""
    import blosc2  # takes half a second, also in calls that have nothing to do

    mapped = {} if os.name == "nt" else {"mmap_mode": "r"}
    return blosc2.open(urlpath=os.fspath(path), mode="r", dparams={"nthreads": 1}, **mapped)


def read_pickle(path: Path) -> dict[str, Any]:
    """Read the properties of a case, written by this package or by nnU-Net."""
    with path.open("rb") as file:
        return pickle.load(file)


def temporary_file_in(folder: Path, name: str) -> Path:
    """Return the path of a temporary file in ``folder``, for targets whose folder must hold no other file.

    A file left there by an earlier call is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(folder / name)
    temporary.unlink(missing_ok=True)
    return temporary


@contextmanager
def verified_write(temporary: Path, array: np.ndarray, path: Path) -> Iterator[None]:
    """Check after the block, in which blosc2 writes ``array`` to ``temporary``, that the file holds the array.

    blosc2 does not report a full disk.

    Raises StorageError if the file does not hold ``array``; the message names ``path``, the final place of the file.
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
    """Write ``content`` to ``path`` atomically, through a temporary file in ``temporary_folder``."""
    temporary = temporary_file_in(temporary_folder, path.name)
    with storage_errors(path):
        try:
            with temporary.open("wb") as file:
                pickle.dump(content, file)
            move_into_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def move_into_place(temporary: Path, path: Path) -> None:
    """Flush ``temporary`` to the disk and move it to ``path`` on the same file system."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        put_in_place(temporary, path)


def link_or_copy(source: Path, path: Path, temporary_folder: Path, symbolic: bool = False) -> None:
    """Put ``source`` at ``path`` atomically: as a symbolic link if asked for, else as a hard link, else as a copy.

    Nothing is done if ``path`` is this file already.
    """
    if path.exists() and path.samefile(source):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_file_in(temporary_folder, path.name)
    ways: list[Callable[..., None]] = [os.symlink, os.link] if symbolic else [os.link]
    with storage_errors(path):
        try:
            for way in ways:
                try:
                    way(source.resolve(), temporary)
                    break
                except OSError:  # no such links on this file system, or between these two
                    continue
            else:
                shutil.copyfile(source, temporary)
            put_in_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
