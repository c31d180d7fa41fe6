"""One process per campaign: a lock that the operating system releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from nnunet_al.errors import CampaignLockedError
from nnunet_al.files import read_json, storage_errors, write_json

PATIENCE_SECONDS = 120
"""How long to wait for a lock that others hold for moments only."""

_LOOK_AGAIN_SECONDS = 0.1


@contextmanager
def campaign_lock(path: Path, patience_seconds: float = 0) -> Iterator[None]:
    """Hold the lock ``path`` for the duration; wait for it for so many seconds if another process has it.

    A POSIX record lock is used: it ends with the process, however that ends, child processes do not inherit it, and
    network file systems carry it between hosts. Who holds it stands in a file beside it, for the sentence below.

    Raises
    ------
    CampaignLockedError
        if another process holds it; names host, process id and since when.
    """
    holder_file = path.with_name(path.name + ".json")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    with file:
        until = time.monotonic() + patience_seconds
        while True:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except (BlockingIOError, PermissionError) as error:
                if time.monotonic() >= until:
                    raise CampaignLockedError(_describe(path, holder_file)) from error
                time.sleep(_LOOK_AGAIN_SECONDS)
        write_json(
            holder_file,
            {
                "host": socket.gethostname(),
                "process": os.getpid(),
                "since": datetime.now().astimezone().isoformat(timespec="seconds"),
            },
        )
        try:
            yield
        finally:
            holder_file.unlink(missing_ok=True)


def _describe(path: Path, holder_file: Path) -> str:
    try:
        holder = read_json(holder_file)
        who = f"process {holder['process']} on host {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError):
        who = "a process that has just begun"
    return f"Another process works on the campaign {path.parent}: {who}; wait for it or stop it."
