"""Locks between processes and hosts, on files of a shared file system.

POSIX record locks are used: the system releases them when the process ends, also when it is killed; child processes do
not inherit them; and network file systems share them between hosts. A process must not take the same lock twice.
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

_POLL_SECONDS = 0.1
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextmanager
def file_lock(
    path: Path,
    shared: bool = False,
    timeout_seconds: float = 0,
    byte: int | None = None,
    waiting: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Hold the lock file ``path``, which is created where it is missing, inside the ``with`` block.

    Several processes may hold a ``shared`` lock together. With ``byte`` only this byte is locked, which may lie beyond
    the file's end: one file then serves many locks. ``waiting`` is called once, before the first wait.

    Raises TimeoutError if another process holds it for longer; StorageError if the file cannot be written or its file
    system has no locks.
    """
    until = time.monotonic() + timeout_seconds
    busy = False
    while True:
        with _opened(path) as file:
            if _take(file, path, shared, byte):
                if not _is_still_there(file, path):
                    continue  # the previous owner has removed the file
                yield
                return
        if not busy:
            busy = True
            waiting()
        if time.monotonic() >= until:
            raise TimeoutError(f"others hold {path}")
        time.sleep(_POLL_SECONDS)


def remove_lock(path: Path, folders: Sequence[Path]) -> None:
    """Remove a lock file while holding the lock, then those ``folders`` (the deepest first) that are empty."""
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
            with suppress(FileNotFoundError):  # another process has removed the folder meanwhile
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
                "overwrite each other's files: mount it with locks, or choose folders on another one."
            ) from error
        raise
    return True


def _is_still_there(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
