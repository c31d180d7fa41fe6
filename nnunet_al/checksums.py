"""Checksums of the files that a campaign and a dataset's store keep."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nnunet_al.files import hash_file, hash_json

SEAL = "checksum"
"""Key of a JSON file for the checksum of its other content."""

_KNOWN: dict[tuple[int, ...], str] = {}


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; a process reads a file for it once, as long as its size and times stay."""
    state = path.stat()
    version = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    if version not in _KNOWN:
        _KNOWN[version] = hash_file(path)
    return _KNOWN[version]


def checksums(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return path, relative to ``folder`` and with slashes, -> checksum."""
    return {Path(os.path.relpath(file, folder)).as_posix(): checksum(file) for file in files}


def is_intact(path: Path, expected: str) -> bool:
    """Tell whether a file is there and has the expected checksum."""
    return path.is_file() and checksum(path) == expected


def seal(content: Mapping[str, Any], keys: Iterable[str] | None = None) -> dict[str, Any]:
    """Return ``content`` with the checksum of its values, or of those under ``keys``."""
    return {**content, SEAL: _hash(content, keys)}


def is_sealed(content: Mapping[str, Any], keys: Iterable[str] | None = None) -> bool:
    """Tell whether a JSON object is as `seal` left it; true for those of earlier versions, which have no checksum."""
    return SEAL not in content or content[SEAL] == _hash(content, keys)


def _hash(content: Mapping[str, Any], keys: Iterable[str] | None) -> str:
    chosen = content.keys() - {SEAL} if keys is None else content.keys() & {*keys}
    return hash_json({key: content[key] for key in chosen})
