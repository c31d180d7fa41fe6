"""What a cluster's scheduler says of jobs: which are in its queue, and why they do not run yet."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

PATIENCE_SECONDS = 30
"""How long a scheduler may take for an answer."""

NEVER = "what it waits for has failed"
"""The reason of a job that will never run."""

_AT_ONCE = 5000  # ids of one question; as text they stay below what one argument may hold
_MOST_BYTES = 32 << 20
_SLURM_ID = re.compile(r"(\d+)(?:_(\d+))?")
_LSF_ID = re.compile(r"(\d+)(?:\[(\d+)\])?")
_NOT_FOUND = re.compile(r"is not found|No (?:matching|unfinished)?\s*job found", re.IGNORECASE)

_SLURM_RUNS = {"RUNNING": "", "CONFIGURING": "its node is being made ready", "COMPLETING": "it is ending"}
_SLURM_RUNS |= dict.fromkeys(("RESIZING", "SIGNALING", "STAGE_OUT"), "")
_SLURM_GONE = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED"),
    "TIMEOUT",
}
_SLURM_AGAIN = dict.fromkeys(("REQUEUED", "REQUEUE_FED", "PREEMPTED"), "to run again")
_SLURM_HELD = {
    **dict.fromkeys(("SUSPENDED", "STOPPED"), "suspended"),
    **dict.fromkeys(("REQUEUE_HOLD", "SPECIAL_EXIT"), "held after it was put back into the queue"),
}
_SLURM_REASONS = {
    "None": "the scheduler has not looked at it yet",
    "Dependency": "for other jobs",
    "Resources": "for free resources",
    "Priority": "behind jobs of a higher priority",
    "JobArrayTaskLimit": "as many tasks of this array run as may",
    "BeginTime": "for its time to begin",
}
_SLURM_HOLDS = {
    "DependencyNeverSatisfied": NEVER,
    "JobHeldUser": "held by its owner",
    "JobHeldAdmin": "held by an administrator",
    "PartitionTimeLimit": "it asks for more hours than its partition allows",
    "PartitionNodeLimit": "it asks for more nodes than its partition allows",
    "BadConstraints": "no node can give what it asks for",
}
_LSF_RUNS = {"RUN": "", "PROV": "its host is being made ready", "UNKWN": "its host does not answer"}
_LSF_HELD = {"PSUSP": "held", "USUSP": "suspended by its owner", "SSUSP": "suspended by the scheduler"}
_LSF_NEVER = "never satisfied"


@dataclass(frozen=True)
class Seen:
    """A job, or a task of an array, that is in a scheduler's queue.

    Attributes
    ----------
    state : "waits", "runs", or "held": does not run before somebody does something
    reason : why it waits or is held, in words; may be empty
    """

    state: str
    reason: str = ""


Queue = dict[str, dict[int | None, Seen]]


def ask(target: str, ids: Collection[str]) -> Queue | None:
    """Ask the scheduler of a target for jobs by their ids.

    Returns
    -------
    dict or None
        id -> part (None: the job is no array) -> what was seen, of what is in the queue now; what is not in it has no
        entry. None where no scheduler answers: there is none, it fails, or takes longer than ``PATIENCE_SECONDS``.
    """
    asked = {id_ for id_ in ids if id_}
    if target == "lsf":
        return _in_chunks(asked, _LSF_ID, _ask_lsf)
    if target == "slurm":
        return _in_chunks(asked, _SLURM_ID, _ask_slurm)
    return None


def _in_chunks(
    ids: Iterable[str], form: re.Pattern[str], ask_some: Callable[[Sequence[str]], Queue | None]
) -> Queue | None:
    """Ask for the jobs that ids such as "12", "12_3" or "12;cluster" name, some hundred at a time."""
    named = {id_: match for id_ in ids if (match := form.match(id_))}
    numbers = sorted({match[1] for match in named.values()}, key=int)
    found: Queue = {}
    for start in range(0, len(numbers), _AT_ONCE):
        some = ask_some(numbers[start : start + _AT_ONCE])
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


def _ask_slurm(numbers: Sequence[str]) -> Queue | None:
    question = ("squeue", "-h", "-r", "-o", "%i|%T|%r")
    answer = _call(*question, "-j", ",".join(numbers))
    if answer is not None and answer.code and "Invalid job id" in answer.errors:
        if len(numbers) == 1:
            return {}
        answer = _call(*question, "-u", str(os.getuid()))  # some versions refuse all ids if they forgot one
    if answer is None or answer.code:
        return None
    wanted = set(numbers)
    queue: Queue = {}
    for line in answer.lines:
        id_, _, rest = line.strip().partition("|")
        state, _, reason = rest.partition("|")
        match = _SLURM_ID.fullmatch(id_)
        seen = match and state and _seen_by_slurm(state, reason.strip())
        if match and seen and match[1] in wanted:
            queue.setdefault(match[1], {})[None if match[2] is None else int(match[2])] = seen
    return queue


def _seen_by_slurm(state: str, reason: str) -> Seen | None:
    if state in _SLURM_GONE:
        return None
    if state in _SLURM_RUNS:
        return Seen("runs", _SLURM_RUNS[state])
    if state in _SLURM_HELD:
        return Seen("held", _SLURM_HELD[state])
    if state in _SLURM_AGAIN:
        return Seen("waits", _SLURM_AGAIN[state])
    if reason in _SLURM_HOLDS:
        return Seen("held", _SLURM_HOLDS[reason])
    if "held" in reason:  # such as "launch failed requeued held"
        return Seen("held", reason)
    return Seen("waits", _SLURM_REASONS.get(reason, reason))


def _ask_lsf(numbers: Sequence[str]) -> Queue | None:
    fields = "jobid jobindex stat"
    answer = _bjobs(f"{fields} pend_reason", numbers)
    if answer is None:  # older versions have no such field
        answer = _bjobs(fields, numbers)
    if answer is None:
        return None
    wanted = set(numbers)
    queue: Queue = {}
    for line in answer:
        id_, index, state, reason = (*(cell.strip() for cell in line.split("|", 3)), "", "", "")[:4]
        match = _LSF_ID.fullmatch(id_)
        seen = match and _seen_by_lsf(state, reason)
        if match and seen and match[1] in wanted:
            number = int(match[2] or (index if index.isdigit() else 0))  # elements are counted from 1
            queue.setdefault(match[1], {})[number - 1 if number else None] = seen
    return queue


def _bjobs(fields: str, numbers: Sequence[str]) -> list[str] | None:
    """Return the lines of bjobs; None where it failed for another reason than jobs that it has forgotten."""
    answer = _call("bjobs", "-u", "all", "-noheader", "-o", f"{fields} delimiter='|'", *numbers)
    if answer is None:
        return None
    complaints = [line for line in answer.errors.splitlines() if line.strip()]
    if answer.code and not (complaints and all(_NOT_FOUND.search(line) for line in complaints)):
        return None
    return answer.lines


def _seen_by_lsf(state: str, reason: str) -> Seen | None:
    if state in {"PEND", "WAIT"}:
        if _LSF_NEVER in reason:
            return Seen("held", NEVER)
        words = "" if reason == "-" else reason.rstrip(";. ")
        return Seen("waits", words)
    if state in _LSF_RUNS:
        return Seen("runs", _LSF_RUNS[state])
    return Seen("held", _LSF_HELD[state]) if state in _LSF_HELD else None  # else DONE, EXIT, ZOMBI


@dataclass(frozen=True)
class _Answer:
    code: int
    lines: list[str]
    errors: str


def _call(*command: str) -> _Answer | None:
    """Run a program; None where it is absent or does not end in time, even if it cannot be killed."""
    # what a person has set for their own eyes, such as SQUEUE_STATES, would change what is listed
    variables = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
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
        if len(text) == _MOST_BYTES:  # what is cut off would pass for jobs that are gone
            return None
        words = errors.read(_MOST_BYTES).decode("utf-8", errors="replace")
        return _Answer(code, text.decode("utf-8", errors="replace").splitlines(), words)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # a file system that hangs keeps it even from being killed
            process.wait(1)
