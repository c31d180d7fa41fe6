"""The processes that work on a campaign, by its locks."""

from __future__ import annotations

import socket
from pathlib import Path

from nnunet_al.files import process_lives, read_json

WHOLE = "lock"
"""The lock of a process that works on a campaign alone."""

_PART = f"{WHOLE}_part_"
_LEDGER = "lock_ledger"  # held briefly by a process that appends to the ledger


def lock_owners(campaign: Path) -> dict[str, str]:
    """Return the names and owners of a campaign's locks that are held.

    A lock names its owner's host, process and time; a process of this host that has ended does not count.
    """
    found = {}
    for file in sorted(campaign.glob(f"{WHOLE}*.json")):
        if file.stem == _LEDGER:
            continue
        try:
            owner = read_json(file)
            host, process, since = str(owner["host"]), int(owner["process"]), str(owner["since"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it has just been released
        if host != socket.gethostname() or process_lives(process):
            found[file.stem] = f"process {process} on {host} since {since}"
    return found


def owner_of_part(owners: dict[str, str], phase: str, part: int, parts: int) -> str | None:
    """Return the owner of the lock of one part of a phase; None without one."""
    for name in (phase, f"{phase}_{part}_of_{parts}"):
        if f"{_PART}{name}" in owners:
            return owners[f"{_PART}{name}"]
    return None
