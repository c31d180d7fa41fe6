"""Sentences on a plan for people: the number of jobs, and the state of earlier ones."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from nnunet_al.campaign.planned import Planned
from nnunet_al.jobs.plan import Plan
from nnunet_al.jobs.submission import HandOver
from nnunet_al.text import count, first_names

_NAMED = 5


def summary(
    folder: str,
    plan: Plan,
    found: HandOver,
    campaigns: Sequence[Planned],
    waiting: Sequence[Planned],
    earlier: Plan | None = None,
) -> list[str]:
    """Return sentences on a plan, on the ``campaigns`` in it, and on those that are ``waiting`` for readers.

    ``earlier`` is the plan that it replaces; campaigns that had jobs in it and are not asked for now are named.
    """
    sentences = []
    all_of_them, done = count(len(campaigns), "campaign"), f"{len(plan.done)} are done"
    if plan.jobs:
        scripts, jobs = count(len(plan.scripts), "script"), count(len(plan.jobs), "job")
        tasks = sum(len(job.missing) for job in plan.jobs)
        in_tasks = f" ({count(tasks, 'task')})" if tasks > len(plan.jobs) else ""
        sentences.append(f"{folder}: {scripts} for {jobs}{in_tasks} of {all_of_them}; {done}.")
    if waiting:
        titles = first_names([campaign.title for campaign in waiting], _NAMED)
        verb = "waits" if len(waiting) == 1 else "wait"
        sentences.append(f"{len(waiting)} of {all_of_them} {verb} for readers: {titles}.")
    elif not plan.jobs:
        sentences.append(f"Nothing is left to do in {all_of_them}: {count(len(plan.done), 'job')} done.")
    if found.assumed:
        sentences.append(
            f"No scheduler answered: {count(len(found.assumed), 'job')}, handed over before, may be in its queue and "
            "will not be handed over again, but by --resubmit."
        )
    elif found.queued:
        sentences.append(f"In the queue already, to stay there: {count(len(found.queued), 'job')}.")
    if found.orphans:
        sentences.append(
            f"In the queue behind something that has failed, to be handed over again: "
            f"{count(len(found.orphans), 'task')}."
        )
    if found.surplus:
        named = first_names([f"{key} ({id_})" for key, id_ in found.surplus.items()], _NAMED)
        sentences.append(f"In the queue from an earlier plan, and not planned any more: {named}.")
    left_out = [] if earlier is None else _campaigns_left_out(earlier, plan)
    if left_out:
        named = first_names(left_out, _NAMED)
        sentences.append(
            f"Not asked for any more, so that this folder has no jobs of them now: {named}; to keep them, "
            "name all datasets, strategies, folds and seeds in one call, or choose another folder."
        )
    return sentences


def command_to_go_on(folder: str) -> str:
    """Return the command that brings the jobs of a folder up to date and hands them over."""
    return f"nnUNetv2_al_jobs -o {shlex.quote(folder)} --submit"


def _campaigns_left_out(earlier: Plan, plan: Plan) -> list[str]:
    """Return the campaigns that still had jobs in an earlier plan and have no script in this one."""
    before = dict.fromkeys(earlier.scripts[job.script].campaign for job in earlier.jobs)
    now = {script.campaign for script in plan.scripts.values()}
    return [f"{root.parent.name}/{root.name}" for root in before if root is not None and root not in now]
