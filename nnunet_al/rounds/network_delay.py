"""Files that another host has just written: over a network file system it may take a while to see them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from nnunet_al.terminal import say

PATIENCE_SECONDS = 60.0
"""For how long a host may be shown a folder as it was: NFS's own default."""

LOOK_AGAIN_SECONDS = 2.0


def wait_while(missing: Callable[[], str], folders: Sequence[Path]) -> None:
    """Wait until nothing is missing that other hosts write into ``folders``, or for as long as that may be hidden.

    ``missing`` returns the names of missing files, for people; nothing when all are there. Folders need not exist.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    said = False
    while (names := missing()) and time.monotonic() < until:
        if not said:
            said = True
            say(f"Not there yet, as far as this host can see: {names}. Another host may have just finished it, so")
            say(f"this one looks again for {PATIENCE_SECONDS:.0f} seconds.")
        time.sleep(LOOK_AGAIN_SECONDS)
        look_anew(folders)


def look_anew(folders: Sequence[Path]) -> None:
    """Open folders, which makes NFS look whether they have changed."""
    for folder in folders:
        with suppress(OSError):
            list(folder.iterdir())
