"""Submission of jobs: which are in the queue already, which have to be submitted again, and the call that does it."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_al.errors import CampaignError, SetupError
from nnunet_al.jobs.folder import JobFolder
from nnunet_al.jobs.plan import Job, Plan
from nnunet_al.jobs.targets import TARGETS, ask
from nnunet_al.jobs.targets.queue import NEVER, Queue, Seen
from nnunet_al.jobs.targets.submit_script import open_parts, submissions

_LAST_WORDS = 3

Place = tuple[str, int | None]
"""An id and, of an array, the part."""


@dataclass(frozen=True)
class HandOver:
    """The jobs that are in the queue: those that stay there, and those that do not belong there any more.

    Attributes
    ----------
    queued : key -> id or ids of a job that is still in the queue, as ``targets.render`` takes them
    orphans : places in the queue behind something that has failed, so that these jobs would never run
    surplus : key -> id of jobs that are in the queue and no longer planned
    assumed : keys of jobs that were handed over before, while no scheduler says where they are
    """

    queued: Mapping[str, str]
    orphans: tuple[Place, ...] = ()
    surplus: Mapping[str, str] | None = None
    assumed: tuple[str, ...] = ()

    def left(self, plan: Plan) -> int:
        """Return the number of jobs that are handed over now, in part or whole."""
        return sum(submission.is_open for submission in submissions(plan, self.queued))


def look(folder: JobFolder, target: str) -> Queue | None:
    """Ask the scheduler for everything that was ever handed over; None where it does not answer."""
    if not TARGETS[target].has_queue:
        return {}
    ids = {id_ for found in folder.history().values() for id_ in found}
    return ask(target, ids) if ids else {}


def hand_over(
    plan: Plan, history: Mapping[str, Sequence[str]], queue: Queue | None, resubmit: bool = False
) -> HandOver:
    """Decide which jobs are left to hand over.

    A job in the queue stays there, unless a job that it waits for has to be handed over again: then it would wait for
    ever. Of an array only the missing parts are handed over. ``history`` holds the ids of all submissions by key.
    Without a ``queue`` (the scheduler does not answer) every job that was handed over before counts as queued, unless
    ``resubmit`` is set.
    """
    if queue is None:
        assumed = () if resubmit else tuple(job.key for job in plan.jobs if job.key in history)
        return HandOver({key: _last_names(history[key]) for key in assumed}, assumed=assumed)
    queued: dict[str, str] = {}
    orphans: list[Place] = []
    renewed: set[str] = set()
    for job in plan.jobs:
        places = _places(job, history.get(job.key, ()), queue)
        is_behind = any(key in renewed for key in job.after)
        kept = {
            part: (id_, seen)
            for part, (id_, seen) in places.items()
            if seen.state == "runs" or not (is_behind or seen.reason == NEVER)
        }
        orphans += [(id_, part) for part, (id_, _) in places.items() if part not in kept]
        if kept:
            queued[job.key] = _name(kept, plan.scripts[job.script].parts)
        if open_parts(job, queued.get(job.key, "").split()):
            renewed.add(job.key)
    known = {*plan.by_key, *plan.done}
    surplus = {key: id_ for key, ids in history.items() if key not in known for id_ in ids if id_ in queue}
    return HandOver(queued, tuple(dict.fromkeys(orphans)), surplus)


def check_same_parts(earlier: Plan, plan: Plan, history: Mapping[str, Sequence[str]], queue: Queue | None) -> None:
    """Refuse another number of parts while arrays of the earlier number are in the queue.

    Raises CampaignError naming the ids.
    """
    for key, ids in history.items():
        name = key if key in plan.scripts else key.rpartition(" ")[0]
        if name not in plan.scripts or name not in earlier.scripts:
            continue
        before, now = earlier.scripts[name].parts, plan.scripts[name].parts
        still = [id_ for id_ in ids if queue is None or id_ in queue]
        if before != now and still and key not in plan.done:
            raise CampaignError(
                f"-num_parts {now}: jobs of {before} parts are still in the queue, {key} ({', '.join(still)}) among "
                f"them; cancel them, or keep -num_parts {before}."
            )


def cancel(target: str, places: Sequence[Place]) -> None:
    """Take jobs out of the queue; jobs that have left it are ignored."""
    scheduler = TARGETS[target]
    wanted = [id_ if part is None or "_" in id_ else scheduler.name_of_part(id_, part) for id_, part in places]
    for start in range(0, len(wanted), 500):
        command = [scheduler.cancel, *wanted[start : start + 500]]
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True)


def submit(folder: JobFolder, target: str) -> int:
    """Run the entry script with its output shown; returns the exit code where there is no queue, else 0.

    Raises SetupError if the scheduler refused something, with its last words.
    """
    entry = folder.root / TARGETS[target].entry
    words: deque[str] = deque(maxlen=_LAST_WORDS)
    sys.stdout.flush()
    with subprocess.Popen(["bash", str(entry)], stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                sys.stderr.write(line)
                sys.stderr.flush()
                if line.strip() and "nnUNetv2_al_jobs" not in line:
                    words.append(line.strip().rstrip("."))
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()  # a person's Control-C has reached it already, a scheduler's signal has not
            process.wait()
            raise
    if code and TARGETS[target].has_queue:
        said = "; ".join(words) or f"{entry} ended with exit code {code}"
        raise SetupError(
            f"Not all jobs were handed over ({said}): solve that and call nnUNetv2_al_jobs --submit again, which "
            "continues after those that were."
        )
    return code


def _places(job: Job, ids: Sequence[str], queue: Queue) -> dict[int | None, tuple[str, Seen]]:
    """Return part -> id and state of the missing parts of a job in the queue; None stands for all parts."""
    found: dict[int | None, tuple[str, Seen]] = {}
    for id_ in ids:
        for part, seen in queue.get(id_, {}).items():
            if part is None or part in job.missing:
                found[part] = (id_, seen)
    return found


def _name(kept: Mapping[int | None, tuple[str, Seen]], parts: int) -> str:
    """Return the names of a job in the queue: the id of the whole, or ID_PART of each part."""
    if None in kept:
        return kept[None][0]
    ids = {id_ for id_, _ in kept.values()}
    if len(ids) == 1 and len(kept) == parts:
        return ids.pop()
    of_parts = sorted((part or 0, id_) for part, (id_, _) in kept.items())
    return " ".join(id_ if "_" in id_ else f"{id_}_{part}" for part, id_ in of_parts)


def _last_names(ids: Sequence[str]) -> str:
    """Name the last submission, where parts may have been handed over one by one."""
    return " ".join(id_ for id_ in ids if "_" in id_) if "_" in ids[-1] else ids[-1]
