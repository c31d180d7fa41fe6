"""A plan of jobs: shell commands with their resources and dependencies, for any target.

A command does nothing when its work is done and continues when it is half done, so that a plan may be handed over again
at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class JobResources:
    """The resources of a job, or of each task of an array: GPUs, CPUs, GB of main memory and hours.

    A job may be stopped when its hours are over; it continues in another one.
    """

    gpus: int
    cpus: int
    memory_gb: int
    hours: float


@dataclass(frozen=True)
class Script:
    """A command that is run for one round after the other.

    Attributes
    ----------
    name : relative path without ending, unique in the plan: "Dataset004_Hippocampus/2d__usimf__seed0/fold_0/score", or
        "Dataset004_Hippocampus/prepare" for the job that all campaigns of a dataset share
    phase : "prepare_dataset", "start", or the name of a phase of a round (``stages.Phase``)
    title : one sentence on its purpose, for people
    command : program and arguments; "-round K" is added where jobs of it have a round, and "-num_parts N -part_id I"
        where ``parts`` is more than 1
    resources : of each task
    parts : number of tasks; more than 1 makes it an array
    campaign : absolute folder of the campaign, None for the job that campaigns share
    logs : absolute folder for the output of its jobs
    """

    name: str
    phase: str
    title: str
    command: tuple[str, ...]
    resources: JobResources
    logs: Path
    parts: int = 1
    campaign: Path | None = None


@dataclass(frozen=True)
class Job:
    """One call of a script, or one array of calls.

    Attributes
    ----------
    script : its script's name
    round : number of the round; None where the script has none
    after : keys of the jobs that must have succeeded before
    missing : the parts that are not done yet; all of them for a new plan
    behind : keys of the jobs that must have ended before, well or not
    """

    script: str
    round: int | None
    after: tuple[str, ...] = ()
    missing: tuple[int, ...] = (0,)
    behind: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Unique in the plan: the script's name and the round, "Dataset004_X/2d__random__seed0/fold_0/train 3"."""
        return self.script if self.round is None else f"{self.script} {self.round}"


@dataclass(frozen=True)
class Plan:
    """Scripts, and the jobs that are still to be done, each behind all that it waits for.

    Attributes
    ----------
    request : the command line that made the plan, less the program's name; the same call brings it up to date
    environment : variables that the jobs must have, nnU-Net's three folders among them
    path : folders in which the jobs' programs lie, to be put before PATH
    limit : how many tasks of one array may run at the same time; None: no limit
    ends_at_readers : whether the jobs of a round end with a batch for people, so that exit code 3 is a success
    gpus : of this machine, for the target shell: one campaign on each at a time
    done : keys of the jobs that need not run any more
    """

    scripts: Mapping[str, Script]
    jobs: tuple[Job, ...]
    request: tuple[str, ...]
    environment: Mapping[str, str]
    path: tuple[str, ...]
    limit: int | None = None
    ends_at_readers: bool = False
    gpus: tuple[str, ...] = ()
    done: frozenset[str] = field(default_factory=frozenset)

    @cached_property
    def by_key(self) -> dict[str, Job]:
        """The jobs by their keys."""
        return {job.key: job for job in self.jobs}

    def log(self, job: Job, part: str = "") -> Path:
        """Return the file with a job's output: "round_003_score_<part>.txt" in its script's log folder."""
        script = self.scripts[job.script]
        number = "" if job.round is None else f"round_{job.round:03d}_"
        return script.logs / f"{number}{script.phase}{f'_{part}' if part else ''}.txt"


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as a JSON object, without the missing parts of jobs that are no arrays."""
    return {
        **{each.name: getattr(plan, each.name) for each in fields(plan)},
        "scripts": [_script_to_json(script) for script in plan.scripts.values()],
        "jobs": [_job_to_json(job) for job in plan.jobs],
        "done": sorted(plan.done),
    }


def plan_from_json(content: Mapping[str, Any]) -> Plan:
    """Rebuild a plan from :func:`plan_to_json`.

    Raises KeyError, TypeError, ValueError if the content is none.
    """
    scripts = [_script_from_json(entry) for entry in content["scripts"]]
    return Plan(
        scripts={script.name: script for script in scripts},
        jobs=tuple(_job_from_json(entry) for entry in content["jobs"]),
        request=tuple(content["request"]),
        environment=dict(content["environment"]),
        path=tuple(content["path"]),
        limit=content["limit"],
        ends_at_readers=bool(content["ends_at_readers"]),
        gpus=tuple(content["gpus"]),
        done=frozenset(content["done"]),
    )


def _script_to_json(script: Script) -> dict[str, Any]:
    content = {name: value for name, value in vars(script).items() if name != "resources"}
    campaign = None if script.campaign is None else str(script.campaign)
    return {**content, "needs": asdict(script.resources), "logs": str(script.logs), "campaign": campaign}


def _script_from_json(content: Mapping[str, Any]) -> Script:
    return Script(
        name=content["name"],
        phase=content["phase"],
        title=content["title"],
        command=tuple(content["command"]),
        resources=JobResources(**content["needs"]),
        logs=Path(content["logs"]),
        parts=content["parts"],
        campaign=None if content["campaign"] is None else Path(content["campaign"]),
    )


def _job_to_json(job: Job) -> dict[str, Any]:
    content: dict[str, Any] = {"script": job.script, "round": job.round, "after": list(job.after)}
    missing = {} if job.missing == (0,) else {"missing": list(job.missing)}
    return {**content, **missing, **({"behind": list(job.behind)} if job.behind else {})}


def _job_from_json(content: Mapping[str, Any]) -> Job:
    missing, behind = tuple(content.get("missing", (0,))), tuple(content.get("behind", ()))
    return Job(content["script"], content["round"], tuple(content["after"]), missing, behind)
