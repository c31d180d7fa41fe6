"""The common part of the entry scripts of schedulers: which jobs are handed over, and for which jobs each waits."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nnunet_al.jobs.plan import Job, Plan, Script
from nnunet_al.jobs.targets.bash_template import fill_template


@dataclass(frozen=True)
class Submission:
    """A job as an entry script hands it over.

    Attributes
    ----------
    variable : name of a variable of the entry script, in which other jobs find the id to wait for
    after : variables of the jobs that must succeed before
    behind : variables of the jobs that must end before
    queued : its id, or "ID_PART" of each part, if it is in the queue already
    parts : those that are to be handed over; 0 stands for a job that is no array
    """

    job: Job
    script: Script
    variable: str
    after: tuple[str, ...]
    behind: tuple[str, ...]
    queued: tuple[str, ...]
    parts: tuple[int, ...]

    @property
    def is_open(self) -> bool:
        """Whether anything of it is to be handed over."""
        return bool(self.parts)


def submissions(plan: Plan, queued: Mapping[str, str]) -> list[Submission]:
    """Return the jobs of a plan in order, with those that they wait for as variables of the entry script."""
    variables = {job.key: f"j{number}" for number, job in enumerate(plan.jobs, start=1)}
    found = []
    for job in plan.jobs:
        ids = tuple(queued.get(job.key, "").split())
        after, behind = (
            tuple(dict.fromkeys(variables[key] for key in keys if key in variables)) for keys in (job.after, job.behind)
        )
        script, variable, parts = plan.scripts[job.script], variables[job.key], open_parts(job, ids)
        found.append(Submission(job, script, variable, after, behind, ids, parts))
    return found


def open_parts(job: Job, queued: Sequence[str]) -> tuple[int, ...]:
    """Return the missing parts of a job that are not in the queue, where its id, or "ID_PART" of each part, is."""
    if any("_" not in one for one in queued):
        return ()
    in_queue = {int(one.rpartition("_")[2]) for one in queued}
    return tuple(part for part in job.missing if part not in in_queue)


def ranges(numbers: Iterable[int]) -> str:
    """Write numbers as schedulers do: "0-2,5"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def call(submission: Submission, options: Sequence[str]) -> list[str]:
    """Return the call of ``submit`` for a job, each option of the scheduler on a line of its own."""
    job = submission.job
    number = "''" if job.round is None else str(job.round)
    return " \\\n    ".join([f"submit {submission.variable} {shlex.quote(job.key)} {number}", *options]).split("\n")


def entry(scheduler: str, hand_over: Sequence[str], wait: str, lines: Iterable[str]) -> str:
    """Return an entry script as text.

    The lines ``hand_over`` call the scheduler for one job: they find ``round``, ``script`` and, as arguments, the
    scheduler's options, set ``id``, and fail if there is none. Others wait for ``wait``, which may hold "$id".
    ``lines`` are the calls of ``submit``.
    """
    filled = fill_template("submit.sh", SCHEDULER=scheduler, HAND_OVER=hand_over, WAIT=wait, JOBS=list(lines))
    return "\n".join(filled) + "\n"
