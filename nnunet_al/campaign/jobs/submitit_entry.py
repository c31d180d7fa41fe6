"""What the ``submit.py`` of a job folder hands jobs over with; it holds the calls and what jobs ask for itself."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunet_al.campaign import round_phases
from nnunet_al.campaign.jobs.folder import JobFolder
from nnunet_al.campaign.jobs.plan import Job, Plan
from nnunet_al.campaign.jobs.submitit_job import Command
from nnunet_al.campaign.jobs.targets.handing_over import ranges
from nnunet_al.campaign.jobs.targets.scripts import AUGMENTATION, augmentation_processes, has_rounds, slug
from nnunet_al.errors import CampaignError, SetupError
from nnunet_al.progress import say
from nnunet_al.stopping import is_asked_to_stop

NO_LIMIT_MINUTES = 60 * 24 * 366
"""Submitit's local executor ends jobs after 2 minutes if nothing is said; here nobody waits for the machine."""

_TRAINS = (round_phases.TRAIN, "round")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_SECONDS_BETWEEN_LOOKS = 0.1


def require_submitit() -> None:
    """Check that submitit is installed.

    Raises
    ------
    SetupError
        saying how to install it.
    """
    if importlib.util.find_spec("submitit") is None:
        raise SetupError('-to submitit needs the package submitit: pip install "nnunet-al[cluster]".')


@dataclass(frozen=True)
class JobsToHandOver:
    """The jobs of a folder, and what is in the queue already.

    Attributes
    ----------
    root : the folder
    queued : key -> id of a job in the queue; of an array of which only some parts are in it, their "ID_PART"
    """

    root: Path
    queued: Mapping[str, str]

    @cached_property
    def plan(self) -> Plan:
        """What ``plan.json`` holds."""
        return JobFolder(self.root).load()[0]

    @property
    def submitit_folder(self) -> Path:
        """Where submitit keeps what it hands over, its logs and results: a folder for each job.

        Raises
        ------
        CampaignError
            if submitit or Slurm would take something in its name for a variable of theirs.
        """
        for sign in "%\\":
            if sign in str(self.root):
                raise CampaignError(f"-o {self.root}: submitit cannot work in a folder with a {sign} in its name.")
        return self.root / "submitit" / "%j"

    def waiting_ids(self, job: Job) -> list[str]:
        """Return the ids under which a job, or parts of it, are in the queue."""
        return self.queued.get(job.key, "").split()

    def open_parts(self, job: Job) -> list[int]:
        """Return the parts of a job that are to be handed over; (0,) for one that is no array."""
        ids = self.waiting_ids(job)
        if any("_" not in one for one in ids):
            return []
        in_queue = {int(one.rpartition("_")[2]) for one in ids}
        return [part for part in job.missing if part not in in_queue]

    def name(self, job: Job) -> str:
        """Return a name for the scheduler's list."""
        number = "" if job.round is None else f".{job.round}"
        return slug(self.plan.scripts[job.script]) + number

    def array(self, job: Job) -> dict[str, str]:
        """Return the option of ``sbatch`` that makes an array of a job, if it is one.

        Tasks bear the numbers of their parts, while submitit would count anew when only some are missing.
        """
        if self.plan.scripts[job.script].parts == 1:
            return {}
        limit = f"%{self.plan.limit}" if self.plan.limit else ""
        return {"array": f"{ranges(self.open_parts(job))}{limit}"}

    def command(self, job: Job, part: int = 0, patience_seconds: float = 240.0) -> Command:
        """Return what runs as the job, or as one part of it."""
        plan, script = self.plan, self.plan.scripts[job.script]
        number = ["-round", str(job.round)] if has_rounds(script) and job.round is not None else []
        share = ["-num_parts", str(script.parts), "-part_id", str(part)] if script.parts > 1 else []
        trains = script.phase in _TRAINS
        return Command(
            argv=(*script.command, *number, *share),
            log=plan.log(job, str(part) if script.parts > 1 else ""),
            environment=dict(plan.environment),
            defaults={AUGMENTATION: str(augmentation_processes(script.needs))} if trains else {},
            path=plan.path,
            ends_at_readers=plan.ends_at_readers,
            patience_seconds=patience_seconds,
        )

    def commands(self, job: Job, warning_seconds: int) -> list[Command]:
        """Return a command for each part, the missing ones or not: an array's tasks find theirs by its number."""
        patience = max(30, warning_seconds - 60)
        return [self.command(job, part, patience) for part in range(self.plan.scripts[job.script].parts)]

    def submit(self, executor: Any, job: Job, commands: Sequence[Command]) -> str:
        """Hand a job over to Slurm, write that down at once, and return its id.

        Raises
        ------
        SetupError
            if Slurm refuses it, with its words.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        with _undisturbed():
            try:
                submitted = executor.submit_array(commands)
            except (FailedJobError, FailedSubmissionError, OSError) as error:
                said = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
                raise SetupError(
                    f"Slurm did not take {job.key} ({said}): what it took before is noted, and nnUNetv2_al_jobs "
                    "--submit goes on from there."
                ) from error
            number = str(submitted[0].job_id).partition("_")[0]
            self.note(job, number)
        open_parts = self.open_parts(job)
        for part, one in enumerate(submitted):
            if part not in open_parts:  # submitit has written it, but Slurm does not run it
                shutil.rmtree(one.paths.folder, ignore_errors=True)
        return number

    def do_here(self, executor: Any, job: Job, part: int, before: Sequence[str] = ()) -> bool:
        """Do a job, or one part of it, on this machine, wait for its end and return whether it succeeded."""
        command = self.command(job, part)
        command.before = tuple(before)
        # submitit's local executor hides all GPUs that it was not asked for, and takes those that others have chosen
        command.environment = {**command.environment, _VISIBLE: os.environ.get(_VISIBLE)}
        running = None
        try:
            running = executor.submit(command)
            self.note(job, f"local-{running.job_id}")
            while not running.done():
                if is_asked_to_stop():
                    raise KeyboardInterrupt
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        except KeyboardInterrupt:
            if running is not None:
                running.cancel()
                while not running.done():
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
            raise
        failure = running.exception()
        if failure is not None:
            say(f"{job.key} failed, see {command.log}")
        return failure is None

    def note(self, job: Job, number: str) -> None:
        """Append a submission to ``submitted.tsv``."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with JobFolder(self.root).submitted_file.open("a", encoding="utf-8") as file:
            file.write(f"{job.key}\t{number}\t{now}\n")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Within the block, let Control-C wait, for programs that are started in it, too: what was submitted is noted."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
