"""One process per campaign, or several that do not disturb each other; locks of dead processes are free.

While a lock is held, a file beside it names the holder. The parts of a shared lock are bytes of one file.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from nnunet_al.errors import CampaignLockedError
from nnunet_al.file_locks import file_lock
from nnunet_al.files import hash_json, read_json, write_json

PATIENCE_SECONDS = 120
"""How long to wait for a lock that others hold for moments only."""


@contextmanager
def campaign_lock(path: Path, timeout_seconds: float = 0) -> Iterator[None]:
    """Hold the lock ``path`` alone inside the ``with`` block; wait up to ``timeout_seconds`` while others have it.

    Raises CampaignLockedError if others hold it; names host, process id and since when; StorageError if the file system
    has no locks.
    """
    with _held(path, False, timeout_seconds):
        for stale in path.parent.glob(f"{path.name}_part_*.json"):
            stale.unlink(missing_ok=True)  # nobody shares the lock now: it is of a killed process
        with _named(path):
            yield


@contextmanager
def shared_lock(path: Path, part: str, timeout_seconds: float = 0) -> Iterator[None]:
    """Share the lock ``path``, so that nobody holds it alone; hold the part of this name alone.

    Raises CampaignLockedError if another process holds ``path`` alone, or the same part; StorageError if the file
    system has no locks.
    """
    parts, byte = path.with_name(f"{path.name}_parts"), int(hash_json(part)[:10], 16)
    name = path.with_name(f"{path.name}_part_{part}")
    with _held(path, True, timeout_seconds), _held(parts, False, timeout_seconds, byte, path), _named(name):
        yield


@contextmanager
def _held(
    file: Path, shared: bool, timeout_seconds: float, byte: int | None = None, path: Path | None = None
) -> Iterator[None]:
    with ExitStack() as held:
        try:
            held.enter_context(file_lock(file, shared, timeout_seconds, byte))
        except TimeoutError:
            raise CampaignLockedError(_describe(path or file)) from None
        yield


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Write down who holds the lock ``path``, inside the ``with`` block."""
    holder_file = path.with_name(f"{path.name}.json")
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    write_json(holder_file, {"host": socket.gethostname(), "process": os.getpid(), "since": now})
    try:
        yield
    finally:
        holder_file.unlink(missing_ok=True)


def _describe(path: Path) -> str:
    holders = []
    # those who share a lock have parts of it
    for file in sorted({path.with_name(f"{path.name}.json"), *path.parent.glob(f"{path.name}_part_*.json")}):
        try:
            holder = read_json(file)
            holders.append(f"process {holder['process']} on host {holder['host']} since {holder['since']}")
        except (OSError, ValueError, KeyError):
            continue
    who = " and ".join(holders) or "a process that has just begun"
    return f"Another process works on the campaign {path.parent}: {who}; wait for it or stop it."
