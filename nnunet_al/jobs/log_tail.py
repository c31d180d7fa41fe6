"""The end of a job's log: its last lines for people, and how the job ended according to its script."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

MARK = "nnunet-al: "
"""The beginning of all lines that a job's script writes, among the output of its command."""

_BYTES = 64 << 10
_WIDEST = 300
_BEGAN = re.compile(re.escape(MARK) + r"begins on (?P<host>\S+?)(?:, process (?P<process>\d+))? at ")
_ENDED = re.compile(re.escape(MARK) + r"ended with exit code (-?\d+)\b")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Run:
    """One run of a job: on which host and as which process it began, and its exit code; None or "" if not known."""

    host: str
    process: int | None
    code: int | None


def last_lines(path: Path, number: int = 5) -> list[str]:
    """Return the last lines of a log that are not empty, the oldest first; none without a log.

    Only the last state of a progress bar is kept, control characters are removed, and a line is cut after 300
    characters. Only the end of the log is read.
    """
    return [_shortened(line) for line in _end_of(path)[-number:]]


def last_run(path: Path) -> Run | None:
    """Return a job's last run, as its script wrote it to the log; None without such lines."""
    code = None
    for line in reversed(_end_of(path)):
        if began := _BEGAN.match(line):
            return Run(began["host"], int(began["process"]) if began["process"] else None, code)
        if code is None and (ended := _ENDED.match(line)):
            code = int(ended[1])
    return None if code is None else Run("", None, code)


def _end_of(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _BYTES))
            content = file.read(_BYTES)
    except OSError:
        return []
    lines = content.decode("utf-8", errors="replace").split("\n")
    if size > _BYTES and len(lines) > 1:
        del lines[0]  # its beginning is missing
    return [shown for line in lines if (shown := _as_shown(line))]


def _as_shown(line: str) -> str:
    """Return a line as a terminal shows it in the end."""
    overwritten = [part for part in line.split("\r") if part.strip()]
    return _CONTROLS.sub("", _ESCAPES.sub("", overwritten[-1])).rstrip() if overwritten else ""


def _shortened(line: str) -> str:
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 3]}..."
