"""The states of a plan's jobs, from the files on disk and the scheduler's answer."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.campaign.stages import HANDS_OUT
from nnunet_al.errors import NnunetALError
from nnunet_al.files import process_lives
from nnunet_al.jobs.done_parts import done_parts
from nnunet_al.jobs.folder import JobFolder
from nnunet_al.jobs.lock_owners import WHOLE, lock_owners, owner_of_part
from nnunet_al.jobs.log_tail import Run, last_lines, last_run
from nnunet_al.jobs.plan import Job, Plan, Script
from nnunet_al.jobs.targets.queue import NEVER, Queue, Seen
from nnunet_al.text import count

DONE, RUNS, WAITS, FAILED = "done", "runs", "waits", "failed"
READERS, NOT_SUBMITTED = "waits for readers", "not submitted"
STATES = (FAILED, RUNS, WAITS, READERS, NOT_SUBMITTED, DONE)
"""The states of a job, the most important first."""

SILENT = "no scheduler answers"
"""The detail of a job that was handed over and whose state is unknown."""

UNREADABLE = (OSError, ValueError, KeyError, TypeError, NnunetALError)
"""The exceptions when a file is read that is broken, gone or being replaced."""

_WAITING, _INTERRUPTED = 3, 130  # exit codes of commands


@dataclass(frozen=True)
class JobState:
    """The state of one job, or of one task of an array.

    Attributes
    ----------
    key : the job's key in its plan
    part : number of the task; None if the job is no array
    state : one of ``STATES``
    detail : the reason in a few words; may be empty
    log : the file with its output, which need not exist
    last : the last lines of the log, if the job failed or labels are missing
    stuck : whether it will not run before something else is repaired or annotated
    """

    key: str
    part: int | None
    state: str
    detail: str
    log: Path
    last: tuple[str, ...] = ()
    stuck: bool = False


@dataclass
class _Known:
    """The findings on a plan so far; its jobs are visited in order."""

    plan: Plan
    submitted: Mapping[str, Sequence[str]]
    queue: Queue | None
    progress: dict[Path, CampaignProgress] = field(default_factory=dict)
    owners: dict[Path, dict[str, str]] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)
    obstacles: dict[str, str] = field(default_factory=dict)  # key -> why nothing behind this job can run

    def done(self, job: Job, script: Script) -> frozenset[int]:
        """Return the parts that are done; a job that only closes a round counts as done unless it is in the queue."""
        if script.campaign is None:
            return done_parts(script, job.round)
        progress = self._progress(script.campaign)
        done = progress.done_parts(script.phase, job.round or 0, script.parts)
        may_close = script.phase in HANDS_OUT and (job.round or 0) >= progress.complete and not progress.used_up
        return frozenset(part for part in done if not (may_close and self.seen(job, part)))

    def awaited(self, job: Job, script: Script) -> int:
        """Return how many regions people have yet to annotate of the batch that a job has handed out."""
        if script.campaign is None or script.phase not in HANDS_OUT:
            return 0
        progress = self._progress(script.campaign)
        return progress.awaited_regions if (job.round or 0) == progress.complete else 0

    def _progress(self, campaign: Path) -> CampaignProgress:
        if campaign not in self.progress:
            self.progress[campaign] = CampaignProgress(campaign)
        return self.progress[campaign]

    def is_behind(self, job: Job) -> bool:
        """Tell whether a job that this one waits for is not done yet."""
        return any(key in self.unfinished for key in job.after)

    def obstacle(self, job: Job) -> str:
        return next((self.obstacles[key] for key in job.after if key in self.obstacles), "")

    def seen(self, job: Job, part: int) -> Seen | None:
        """Return the scheduler's answer on a part; tasks of one array may have been submitted at different times."""
        for id_ in reversed(self.submitted.get(job.key, ())):
            tasks = (self.queue or {}).get(id_, {})
            if part in tasks or None in tasks:
                return tasks[part] if part in tasks else tasks[None]
        return None

    def owner(self, job: Job, script: Script, part: int) -> str | None:
        """Return the owner of a job's lock; the lock of the whole campaign counts for its first unfinished job."""
        if script.campaign is None or self.is_behind(job):
            return None
        if script.campaign not in self.owners:
            self.owners[script.campaign] = lock_owners(script.campaign)
        held = self.owners[script.campaign]
        return owner_of_part(held, script.phase, part, script.parts) or held.pop(WHOLE, None)


def job_states(
    plan: Plan, folder: JobFolder, seen: Queue | None, submitted: Mapping[str, Sequence[str]] | None = None
) -> list[JobState]:
    """Return the state of each job of a plan, or of each of its parts that were missing.

    ``seen`` is the scheduler's answer; without one (None), markers, locks and logs alone decide. ``submitted`` holds
    the ids of each job (``folder.history()``) from before the scheduler was asked, since a job that is submitted
    meanwhile would seem to have left the queue; it is read from ``folder`` if left out.
    """
    known = _Known(plan, folder.history() if submitted is None else submitted, seen)
    states: list[JobState] = []
    for job in plan.jobs:
        of_job = _states_of(job, plan.scripts[job.script], known)
        states += of_job
        found = {state.state for state in of_job}
        if found <= {DONE}:
            continue
        known.unfinished.add(job.key)
        obstacle = known.obstacle(job)
        if FAILED in found:
            obstacle = f"{job.key} has failed"
        elif READERS in found:
            obstacle = f"{job.key} waits for readers"
        if obstacle:
            known.obstacles[job.key] = obstacle
    return states


def in_one_line(error: Exception) -> str:
    """Return the text of an exception without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _states_of(job: Job, script: Script, known: _Known) -> list[JobState]:
    is_array = script.parts > 1
    trouble, awaited, done = "", 0, frozenset[int]()
    try:
        awaited, done = known.awaited(job, script), known.done(job, script)
    except UNREADABLE as error:
        trouble = in_one_line(error)
    states = []
    for part in job.missing:
        log = known.plan.log(job, str(part) if is_array else "")
        last: tuple[str, ...] = ()
        if awaited:
            state, detail, stuck = READERS, f"for {count(awaited, 'region')}", True
        elif part in done:
            state, detail, stuck = DONE, "", False
        else:
            state, detail, stuck = _open_state(job, script, part, log, known)
            if trouble:
                state, detail = FAILED, trouble
            if state in {FAILED, READERS}:
                last = tuple(last_lines(log))
        states.append(JobState(job.key, part if is_array else None, state, detail, log, last, stuck))
    return states


def _open_state(job: Job, script: Script, part: int, log: Path, known: _Known) -> tuple[str, str, bool]:
    """Return state, detail and whether it is stuck, of a part that is not done yet."""
    obstacle = known.obstacle(job)
    seen = known.seen(job, part)
    if seen is not None:
        if seen.state == "runs":
            return RUNS, seen.reason, False
        return WAITS, obstacle or seen.reason, bool(obstacle) or seen.reason == NEVER
    was_submitted = job.key in known.submitted
    has_left = was_submitted and known.queue is not None
    # a host that broke down leaves locks behind, so that a scheduler is believed rather than these
    owner = None if has_left else known.owner(job, script, part)
    if owner is not None:
        return RUNS, owner, False
    if obstacle:
        return NOT_SUBMITTED, obstacle, True
    if not was_submitted and known.is_behind(job):
        return NOT_SUBMITTED, "", False
    run = last_run(log)
    code = None if run is None else run.code
    if code == _WAITING:
        return READERS, "for annotations that are missing", True
    if code not in {None, 0, _INTERRUPTED}:
        return FAILED, f"ended with exit code {code}", False
    if has_left:
        ended = ", though it ended well" if code == 0 else ""
        return FAILED, f"not in the queue any more and not done{ended}", False
    if run is not None and _may_live(run):
        return RUNS, f"on {run.host} by its log", False
    if was_submitted:
        return WAITS, SILENT, False
    return NOT_SUBMITTED, "" if run is None or code == 0 else "was interrupted", False


def _may_live(run: Run) -> bool:
    """Tell whether a run has not ended as far as one can know; of other hosts, only that no end was written."""
    if run.code is not None or not run.host:
        return False
    return run.process is None or run.host != socket.gethostname() or process_lives(run.process)
