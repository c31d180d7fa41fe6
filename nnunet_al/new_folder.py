"""A new folder that is complete or absent: filled under a temporary name beside it, renamed at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from nnunet_al.errors import DatasetError, StorageError
from nnunet_al.files import process_lives, put_in_place, storage_errors, temporary_sibling


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder, which is renamed to ``folder`` when the block ends without an error.

    After an error or an interruption nothing is left, neither the temporary folder nor newly created parents of
    ``folder``. Temporary folders that killed processes left for the same ``folder`` are removed first.

    Raises DatasetError if ``folder`` exists; StorageError if it cannot be made or written; the sentence names
    ``folder``, not the temporary one.
    """
    unfinished = temporary_sibling(folder)
    parents: list[Path] = []
    done = False
    try:
        with storage_errors(folder):
            if os.path.lexists(folder):
                raise DatasetError(f"{folder} exists already: choose another name or number, or remove it first.")
            parents = [parent for parent in folder.parents if not parent.exists()]
            if parents:
                folder.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(folder, unfinished)
            unfinished.mkdir()
            yield unfinished
            put_in_place(unfinished, folder)
            done = True
    except StorageError as error:
        raise StorageError(str(error).replace(unfinished.name, folder.name)) from error
    finally:
        if not done:
            shutil.rmtree(unfinished, ignore_errors=True)
            with suppress(OSError):  # a parent that somebody else uses by now stays
                for parent in parents:
                    parent.rmdir()


def _remove_leftovers(folder: Path, unfinished: Path) -> None:
    """Remove temporary folders of processes of this host that no longer run."""
    ending = f".tmp.{folder.name}"
    start = unfinished.name.removesuffix(f"{os.getpid()}{ending}")
    for leftover in folder.parent.glob(f"{escape(start)}*{escape(ending)}"):
        process = leftover.name.removeprefix(start).removesuffix(ending)
        if process.isdecimal() and not process_lives(int(process)):
            shutil.rmtree(leftover, ignore_errors=True)
