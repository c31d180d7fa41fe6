"""One machine: a script for each campaign, and ``run.sh``, which does the rounds of all, on one GPU or several."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from nnunet_al.jobs.plan import Job, Plan
from nnunet_al.jobs.targets.bash_template import fill_template
from nnunet_al.jobs.targets.scheduler import Scheduler
from nnunet_al.jobs.targets.scripts import Dialect, job_scripts
from nnunet_al.jobs.targets.template import Template


def _render(plan: Plan, queued: Mapping[str, str], template: Template) -> dict[str, str]:
    """Return the files; see `nnunet_al.jobs.targets.render`. Nothing is ever queued here."""
    assert not queued, "a machine has no queue"
    return {**job_scripts(plan, template, lambda *_: Dialect()), "run.sh": _run(plan)}


def _run(plan: Plan) -> str:
    """Return the entry: jobs for all campaigns, then round by round over the campaigns, or a campaign on each GPU.

    A script's jobs are a chain, of which nothing is done any more once one of them, or one that it waits for, failed.
    """
    chains = {name: number for number, name in enumerate(dict.fromkeys(job.script for job in plan.jobs), start=1)}
    shared = [job for job in plan.jobs if plan.scripts[job.script].campaign is None]
    own = [job for job in plan.jobs if plan.scripts[job.script].campaign is not None]
    lines = _calls(plan, shared, chains)
    if plan.gpus:
        lines += _on_gpus(plan, own, chains)
    else:
        # a stable order: each job still stands behind those that it waits for, which are of its round or an earlier one
        lines += _calls(plan, sorted(own, key=lambda job: job.round or 0), chains)
    return "\n".join(fill_template("run.sh", JOBS=lines)) + "\n"


def _calls(plan: Plan, jobs: Iterable[Job], chains: Mapping[str, int]) -> list[str]:
    return [_call(plan, job, chains) for job in jobs]


def _call(plan: Plan, job: Job, chains: Mapping[str, int]) -> str:
    needed = dict.fromkeys(plan.by_key[key].script for key in job.after if key in plan.by_key)
    words = [
        str(chains[job.script]),
        shlex.quote(job.key),
        "''" if job.round is None else str(job.round),
        shlex.quote(str(plan.log(job))),
        *(str(chains[name]) for name in needed if name != job.script),
    ]
    return f"job {' '.join(words)}"


def _on_gpus(plan: Plan, jobs: list[Job], chains: Mapping[str, int]) -> list[str]:
    by_campaign: dict[str, list[Job]] = {}
    for job in jobs:
        by_campaign.setdefault(str(plan.scripts[job.script].campaign), []).append(job)
    lines = []
    for number, own in enumerate(by_campaign.values(), start=1):
        lines += [f"campaign_{number}() {{", *(f"    {call}" for call in _calls(plan, own, chains)), "}"]
    gpus = " ".join(shlex.quote(gpu) for gpu in plan.gpus)
    return [*lines, "", *fill_template("run_on_gpus.sh", CAMPAIGNS=str(len(by_campaign)), GPUS=gpus)]


SHELL = Scheduler(entry="run.sh", render=_render)
