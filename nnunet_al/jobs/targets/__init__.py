"""The targets: each turns a plan into text files, one of which hands the jobs over.

A target is a module with a `Scheduler`; a new one enters by its import and its line in ``TARGETS``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from nnunet_al.jobs.plan import Plan
from nnunet_al.jobs.targets.lsf import LSF
from nnunet_al.jobs.targets.queue import Queue, ask_in_chunks
from nnunet_al.jobs.targets.scheduler import Scheduler
from nnunet_al.jobs.targets.shell import SHELL
from nnunet_al.jobs.targets.slurm import SLURM
from nnunet_al.jobs.targets.template import EMPTY, OTHER_MARKS, Template

TARGETS: dict[str, Scheduler] = {"slurm": SLURM, "lsf": LSF, "shell": SHELL}
"""Name of a target, as in ``-to`` and in plan.json -> its scheduler."""

MARKS = frozenset({*OTHER_MARKS, *(target.mark for target in TARGETS.values() if target.mark)})
"""How lines of a script begin that a scheduler reads, whether jobs can be written for it or not."""


def render(target: str, plan: Plan, queued: Mapping[str, str], template: Template = EMPTY) -> dict[str, str]:
    """Return the files of a target, relative path -> text: all scripts of the plan, and the entry.

    ``queued`` holds the ids of the jobs that are still in the queue: they are not handed over again, others wait for
    their ids. Of an array of which only some parts are in the queue it holds "ID_PART" of each of these, with blanks
    between and parts from 0: its other missing parts are handed over. ``template`` holds the lines of the site.
    """
    return TARGETS[target].render(plan, queued, template)


def ask(target: str, ids: Collection[str]) -> Queue | None:
    """Ask the scheduler of a target which of these ids are in its queue: id -> part (None if no array) -> state.

    Returns None where no scheduler answers: there is none, it fails, or takes longer than ``PATIENCE_SECONDS``.
    """
    scheduler = TARGETS.get(target)  # a folder may be from a version that has others
    return None if scheduler is None or scheduler.ask is None else ask_in_chunks(ids, scheduler.ask)
