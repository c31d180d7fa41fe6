"""Free memory of this process, within the limits of the system, the cluster's job and the shell."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

USABLE_SHARE = 0.8
"""Share of the free memory that one step may take; the rest is left to other processes."""

_UNLIMITED = 1 << 60  # control groups of version 1 write "no limit" as a number near 2^63


def available_bytes(system: Path = Path("/")) -> int | None:
    """Return the bytes of memory that this process can still take; None where they are unknown.

    The smallest of: the memory that the system has free or can free (MemAvailable); the rest within the limits of the
    process's control groups (both versions; cached pages of files count as free); the rest within RLIMIT_AS and
    RLIMIT_DATA. None on Windows and on macOS, unless such a limit is set.
    ``system`` is the root folder of the system; another one in tests.
    """
    process = system / "proc/self"
    found = [
        _meminfo(system / "proc/meminfo"),
        *_control_groups(process / "cgroup", system / "sys/fs/cgroup"),
        *_resource_limits(process / "status"),
    ]
    return min((max(amount, 0) for amount in found if amount is not None), default=None)


def gigabytes(count: float) -> str:
    """Return bytes as text, such as "2.75 GB", in units of 10^9."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{max(count / 1e6, 0):.0f} MB"


def _meminfo(file: Path) -> int | None:
    kilobytes = _fields(file).get("MemAvailable:")
    return None if kilobytes is None else kilobytes * 1024


def _resource_limits(status: Path) -> Iterator[int | None]:
    if sys.platform == "win32":
        return
    import resource

    taken = _fields(status)
    for limit, name in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        allowed = resource.getrlimit(limit)[0]
        if allowed != resource.RLIM_INFINITY and allowed < _UNLIMITED:
            yield allowed - taken.get(name, 0) * 1024


def _control_groups(membership: Path, mount: Path) -> Iterator[int | None]:
    for line in _read(membership).splitlines():
        _, controllers, group = f"{line}::".split(":")[:3]
        if not group.startswith("/"):
            continue
        names: tuple[tuple[str, str], ...]
        if controllers == "":
            names = (("memory.max", "memory.current"), ("memory.high", "memory.current"))
            root, cached = mount, ("inactive_file", "active_file")
        elif "memory" in controllers.split(","):
            names = (("memory.limit_in_bytes", "memory.usage_in_bytes"),)
            root, cached = mount / "memory", ("total_inactive_file", "total_active_file")
        else:
            continue
        # each parent group limits too; in a container the mount's root is the group itself and the path does not exist
        inside = PurePosixPath(os.path.normpath("/" + group.lstrip("/"))).relative_to("/")
        for folder in (root / inside, *(root / above for above in inside.parents)):
            statistics = _fields(folder / "memory.stat")
            for limit_name, usage_name in names:
                limit, usage = _number(folder / limit_name), _number(folder / usage_name)
                if limit is not None and usage is not None and limit < _UNLIMITED:
                    yield limit - usage + sum(statistics.get(name, 0) for name in cached)


def _number(file: Path) -> int | None:
    text = _read(file).strip()
    return int(text) if text.isdigit() else None


def _fields(file: Path) -> dict[str, int]:
    """Return the lines of a file that begin with a name and a number."""
    lines = (line.split() for line in _read(file).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) >= 2 and words[1].isdigit()}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
