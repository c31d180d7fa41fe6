"""Questions to any scheduler: which jobs are in its queue, and why they do not run yet."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

PATIENCE_SECONDS = 30
"""How long a scheduler may take for an answer."""

NEVER = "a job that it waits for has failed"
"""The reason of a job that will never run."""

_AT_ONCE = 5000  # ids of one question; as text they stay below the limit of one argument
_MOST_BYTES = 32 << 20
_ID = re.compile(r"(\d+)(?:_(\d+))?")  # anything behind it does not count


@dataclass(frozen=True)
class Seen:
    """A job, or a task of an array, that is in a scheduler's queue.

    Attributes
    ----------
    state : "waits", "runs", or "held", which does not run before somebody acts
    reason : why it waits or is held; may be empty
    """

    state: str
    reason: str = ""


Queue = dict[str, dict[int | None, Seen]]


def ask_in_chunks(ids: Iterable[str], ask: Callable[[Sequence[str]], Queue | None]) -> Queue | None:
    """Ask for the jobs that ids like "12", "12_3" (a part of an array) or "12;cluster" name, some thousand at a time.

    ``ask`` is given numbers of jobs and arrays and answers by number, or with None where the scheduler does not answer.
    """
    named = {id_: match for id_ in ids if (match := _ID.match(id_))}
    numbers = sorted({match[1] for match in named.values()}, key=int)
    found: Queue = {}
    for start in range(0, len(numbers), _AT_ONCE):
        some = ask(numbers[start : start + _AT_ONCE])
        if some is None:
            return None
        found |= some
    queue: Queue = {}
    for id_, match in named.items():
        tasks = found.get(match[1], {})
        if match[2] is not None:  # one task of an array
            tasks = {part: seen for part, seen in tasks.items() if part == int(match[2])}
        if tasks:
            queue[id_] = tasks
    return queue


@dataclass(frozen=True)
class Answer:
    """The output of a program, and its exit code."""

    code: int
    lines: list[str]
    errors: str


def call_program(*command: str, without: str | None = None) -> Answer | None:
    """Run a program; None where it is absent or does not end in time, even if it cannot be killed.

    It gets no variables of the environment whose names begin with ``without``.
    """
    variables = {name: value for name, value in os.environ.items() if without is None or not name.startswith(without)}
    with tempfile.TemporaryFile() as lines, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=lines, stderr=errors, env={**variables, "LC_ALL": "C"}
            )
        except OSError:
            return None
        try:
            code = process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)
        lines.seek(0)
        errors.seek(0)
        text = lines.read(_MOST_BYTES)
        if len(text) == _MOST_BYTES:  # jobs that are cut off would count as gone
            return None
        words = errors.read(_MOST_BYTES).decode("utf-8", errors="replace")
        return Answer(code, text.decode("utf-8", errors="replace").splitlines(), words)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # a file system that hangs keeps it even from being killed
            process.wait(1)
