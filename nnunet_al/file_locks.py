"""Locks between processes and hosts, on files that all of them see.

POSIX record locks are used: they end with the process, however that ends, child processes do not inherit them, and
network file systems carry them between hosts. A process must not take the same lock twice.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from nnunet_al.errors import StorageError
from nnunet_al.files import storage_errors

_LOOK_AGAIN_SECONDS = 0.1
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextmanager
def file_lock(
    path: Path,
    shared: bool = False,
    patience_seconds: float = 0,
    byte: int | None = None,
    waiting: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Hold a lock for the duration.

    Parameters
    ----------
    path
        of the file that is locked; it is made where it is missing.
    shared
        whether others may hold it too who want to share it.
    patience_seconds
        how long to wait while others hold it.
    byte
        lock only this byte of the file, which need not be that long: one file carries the locks of many things.
    waiting
        called once when others are found to hold it.

    Raises
    ------
    TimeoutError
        if others hold it for longer.
    StorageError
        if the file cannot be written or its file system has no locks.
    """
    until = time.monotonic() + patience_seconds
    busy = False
    while True:
        with _opened(path) as file:
            if _take(file, path, shared, byte):
                if not _is_still_there(file, path):
                    continue  # whoever held it has removed the file
                yield
                return
        if not busy:
            busy = True
            waiting()
        if time.monotonic() >= until:
            raise TimeoutError(f"others hold {path}")
        time.sleep(_LOOK_AGAIN_SECONDS)


def remove_lock(path: Path, folders: Sequence[Path]) -> None:
    """Remove a lock's file while it is held, and those ``folders`` (the deepest first) that are empty then."""
    path.unlink(missing_ok=True)
    remove_empty(folders)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, the deepest first, up to the first that is not empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _opened(path: Path) -> BinaryIO:
    with storage_errors(path):
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # its folder was removed by whoever had made it
                return path.open("a+b")


def _take(file: BinaryIO, path: Path, shared: bool, byte: int | None) -> bool:
    where = (0, 0) if byte is None else (1, byte)
    try:
        fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB, *where)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise StorageError(
                f"The file system of {path} has no file locks ({error.strerror}), without which two processes could "
                "spoil each other's work: mount it with locks, or choose folders on another one."
            ) from error
        raise
    return True


def _is_still_there(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
