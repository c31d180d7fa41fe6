"""All campaigns of a dataset and their jobs at one moment, and when there is nothing more to watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.jobs.folder import JobFolder
from nnunet_al.jobs.job_states import (
    DONE,
    FAILED,
    NOT_SUBMITTED,
    READERS,
    RUNS,
    STATES,
    UNREADABLE,
    WAITS,
    JobState,
    in_one_line,
    job_states,
)
from nnunet_al.jobs.lock_owners import lock_owners
from nnunet_al.jobs.plan import Plan
from nnunet_al.jobs.targets import ask
from nnunet_al.text import count

ALL_DONE, SOMETHING_FAILED, ONLY_READERS = 0, 2, 3


@dataclass(frozen=True)
class FolderView:
    """A job folder at one moment.

    Attributes
    ----------
    states : of the jobs and their parts that are not left out
    done_before : how many jobs were done when the plan was made
    broken : why the folder cannot be read; empty if it can
    is_gone : whether that is because it was moved or deleted
    """

    root: Path
    states: tuple[JobState, ...] = ()
    done_before: int = 0
    broken: str = ""
    is_gone: bool = False

    @classmethod
    def unreadable(cls, root: Path, error: Exception) -> FolderView:
        """Return the view of a folder that could not be read."""
        is_gone = not root.exists()
        return cls(root, broken="it was moved or deleted." if is_gone else in_one_line(error), is_gone=is_gone)

    def counts(self) -> dict[str, int]:
        """Return the number of jobs in each state; an array has the most important state of its parts."""
        of_job: dict[str, str] = {}
        for state in self.states:
            of_job[state.key] = min(state.state, of_job.get(state.key, DONE), key=STATES.index)
        found = list(of_job.values())
        return {state: found.count(state) + (self.done_before if state == DONE else 0) for state in STATES}


@dataclass(frozen=True)
class CampaignView:
    """A campaign at one moment.

    Attributes
    ----------
    title : its folder's name below those of the dataset's campaigns
    last : number of the last round that is complete, -1 before round 0 is
    rounds : number of the last round that is wanted
    dice : mean foreground Dice of the last model that was tested, None before there is one
    state : one of ``job_states.STATES``; "not submitted" means that no process works on it
    now : the present state in words
    """

    title: str
    last: int
    rounds: int
    dice: float | None
    state: str
    now: str


@dataclass(frozen=True)
class View:
    """All that is watched at one moment."""

    folders: tuple[FolderView, ...]
    campaigns: tuple[CampaignView, ...]

    def verdict(self) -> int | None:
        """Return the exit code when there is nothing more to watch; None while something may still happen.

        0: all is done; 2: nothing runs or waits any more, and something has failed; 3: only readers are waited for.
        If there are jobs, a campaign without jobs on which no process works does not count; a job folder that cannot
        be read counts as a failure, because its jobs are unknown.
        """
        jobs = [job for folder in self.folders for job in folder.states]
        of_campaigns = {campaign.state for campaign in self.campaigns}
        if any(not folder.broken for folder in self.folders):
            of_campaigns &= {RUNS, FAILED, READERS}
        states = {job.state for job in jobs} | of_campaigns
        if RUNS in states or any(job.state == WAITS and not job.stuck for job in jobs):
            return None
        if FAILED in states or any(folder.broken and not folder.is_gone for folder in self.folders):
            return SOMETHING_FAILED
        if NOT_SUBMITTED in of_campaigns or any(job.state == NOT_SUBMITTED and not job.stuck for job in jobs):
            return None
        return ONLY_READERS if READERS in states else ALL_DONE


def look(roots: Iterable[Path], started: Iterable[CampaignFolder], is_wanted: Callable[[str], bool]) -> View:
    """Look once at the job folders ``roots`` and at campaigns that have ``started``.

    Only jobs are included for whose key ``is_wanted`` is true. A folder or a campaign that cannot be read is shown as
    such, and the others are not affected.
    """
    views: list[FolderView] = []
    jobs: dict[Path, list[JobState]] = {}
    rounds: dict[Path, int] = {}
    for root in roots:
        try:
            view, plan = look_at(JobFolder(root), is_wanted)
        except UNREADABLE as error:
            views.append(FolderView.unreadable(root, error))
            continue
        views.append(view)
        for script in plan.scripts.values():
            if script.campaign is not None and is_wanted(script.name):
                jobs.setdefault(script.campaign, [])
        for state in view.states:
            job = plan.by_key[state.key]
            campaign = plan.scripts[job.script].campaign
            if campaign is not None:
                jobs[campaign].append(state)
                rounds[campaign] = max(rounds.get(campaign, 0), job.round or 0)
    found = sorted({*jobs, *(folder.root for folder in started)})
    return View(tuple(views), tuple(_view_of(root, jobs.get(root, ()), rounds.get(root, 0)) for root in found))


def look_at(folder: JobFolder, is_wanted: Callable[[str], bool]) -> tuple[FolderView, Plan]:
    """Read a job folder and ask its scheduler for the jobs for whose key ``is_wanted`` is true.

    Raises NnunetALError, OSError, ValueError, KeyError, TypeError if the folder is gone or broken.
    """
    stored = folder.load()
    plan = stored.plan
    history = folder.history()  # before the question, or jobs that are submitted meanwhile would count as gone
    queue = ask(stored.target, {id_ for job in plan.jobs for id_ in history.get(job.key, ()) if is_wanted(job.key)})
    states = tuple(state for state in job_states(plan, folder, queue, history) if is_wanted(state.key))
    return FolderView(folder.root, states, sum(is_wanted(key) for key in plan.done)), plan


def watch(
    look: Callable[[], View], show: Callable[[View, bool], object], sleep: Callable[[float], object], every: float
) -> int:
    """Look and show again after ``every`` seconds until there is nothing more to watch; return the exit code.

    That something has failed, or that readers are waited for, must be seen twice in a row: between two jobs nothing
    runs for a moment, and over a network a file may be seen late. ``show`` is also told whether this is the last time.
    """
    before: int | None = None
    while True:
        view = look()
        found = view.verdict()
        is_last = found == ALL_DONE or (found is not None and found == before)
        show(view, is_last)
        if is_last:
            assert found is not None
            return found
        before = found
        sleep(every)


def _view_of(root: Path, jobs: Iterable[JobState], rounds: int) -> CampaignView:
    title = f"{root.parent.name}/{root.name}"
    unfinished = [job for job in jobs if job.state != DONE]
    try:
        progress = CampaignProgress(root)
        if progress.decided is not None:
            rounds = progress.decided.rounds
        state, now = _by_jobs(unfinished) if unfinished else _by_files(root, progress)
        return CampaignView(title, progress.complete - 1, rounds, progress.dice, state, now)
    except UNREADABLE as error:
        return CampaignView(title, -1, rounds, None, FAILED, f"cannot be read: {in_one_line(error)}")


def _by_jobs(unfinished: Sequence[JobState]) -> tuple[str, str]:
    """Return the state of a campaign by its jobs that are not done: the most important state, and its jobs."""
    state = min((job.state for job in unfinished), key=STATES.index)
    alike = [job for job in unfinished if job.state == state]
    names = list(dict.fromkeys(job.key.rpartition("/")[2] for job in alike))
    shown = " and ".join(names if state in {RUNS, FAILED} else names[:1])
    return state, f"{state}: {shown}" + (f" ({alike[0].detail})" if alike[0].detail else "")


def _by_files(root: Path, progress: CampaignProgress) -> tuple[str, str]:
    """Return the state of a campaign by its markers and locks."""
    if progress.decided is None:
        return NOT_SUBMITTED, "not begun"
    if progress.used_up or progress.complete > progress.decided.rounds:
        return DONE, f"{DONE}, the pool is used up" if progress.used_up else DONE
    owners = list(lock_owners(root).values())
    if owners:
        return RUNS, f"{RUNS}: after {progress.last_stage.removesuffix(' done')} ({owners[0]})"
    if progress.waits_for_readers:
        return READERS, f"{READERS}: for {count(progress.awaited_regions, 'region')}"
    return NOT_SUBMITTED, f"nobody works on it; {progress.last_stage}"
