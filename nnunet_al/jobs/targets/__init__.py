"""What runs the jobs: each target turns a plan into text files, one of which hands the jobs over."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from nnunet_al.jobs.plan import Plan
from nnunet_al.jobs.targets.template import EMPTY, Template

NAMES = ("slurm", "lsf", "shell")
ENTRY = {"slurm": "submit.sh", "lsf": "submit.sh", "shell": "run.sh"}
"""Target -> the file that hands the jobs over."""
MARK = {"slurm": "#SBATCH", "lsf": "#BSUB", "shell": ""}
"""Target -> how lines of a script begin that the scheduler reads; nothing where there is no scheduler."""


def render(target: str, plan: Plan, queued: Mapping[str, str], template: Template = EMPTY) -> dict[str, str]:
    """Return the files of a target, relative path -> text: a script for each of the plan's, and the entry.

    ``queued`` holds the ids of the jobs that are still in the queue: they are not handed over again, others wait for
    their ids. Of an array of which only some parts are in the queue it holds "ID_PART" of each of these, with blanks
    between and parts from 0: its other missing parts are handed over. ``template`` is what a site adds.
    """
    files: dict[str, str] = import_module(f"{__name__}.{target}").render(plan, queued, template)
    return files
