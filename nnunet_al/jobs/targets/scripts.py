"""The script of a campaign and phase, as far as it is the same for all targets.

Scripts are for people, too: the head of each states its purpose and how to run it by hand, and none needs another file.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nnunet_al.campaign import stages
from nnunet_al.jobs.plan import JobResources, Plan, Script
from nnunet_al.jobs.targets.run_wrapper import Restart, wrapper_lines
from nnunet_al.jobs.targets.template import Template

_AUGMENTATION = "nnUNet_n_proc_DA"
_MOST_AUGMENTATION = 12  # nnU-Net's own number on a machine that it does not know
_WITHOUT_ROUND = ("prepare_dataset", "start")
_TRAINS = (stages.TRAIN, "round")
_WIDTH = 110
_LONGEST_NAME = 200  # of LSF's 255, since the parts of an array come behind it


@dataclass(frozen=True)
class Dialect:
    """How the scripts of one scheduler differ from those of another.

    Attributes
    ----------
    header : our lines for the scheduler
    part : expression of the shell for the part of an array that this is; fails where there is none
    beginning : lines that come behind the arguments, for example where the output goes
    restart : how a job asks the scheduler to run it again; None where there is no scheduler
    """

    header: Sequence[str] = ()
    part: str = ""
    beginning: Sequence[str] = ()
    restart: Restart | None = None


def job_scripts(plan: Plan, template: Template, dialect_of: Callable[[Script, Template], Dialect]) -> dict[str, str]:
    """Return the scripts of a plan, relative path -> text."""
    return {
        f"{script.name}.sh": _job_script(plan, script, template, dialect_of(script, template))
        for script in plan.scripts.values()
    }


def has_rounds(script: Script) -> bool:
    """Tell whether a script takes the number of a round."""
    return script.phase not in _WITHOUT_ROUND


def log_lines(script: Script) -> list[str]:
    """Return the line of a script that names its own log: the very path of ``Plan.log``, in the variable ``log``."""
    pattern, values = "%s/", shlex.quote(str(script.logs))
    if has_rounds(script):
        pattern, values = f"{pattern}round_%03d_", f'{values} "$round"'
    pattern += script.phase
    if script.parts > 1:
        pattern, values = f"{pattern}_%s", f'{values} "$part"'
    return [f"log=$(printf '{pattern}.txt' {values})"]


def augmentation_processes(resources: JobResources) -> int:
    """Return how many processes augment for each training of a job that has ``resources``.

    One for each CPU but one, at most as many as nnU-Net takes by itself, which does not know how many CPUs a job has.
    """
    return min(_MOST_AUGMENTATION, max(0, resources.cpus // max(1, resources.gpus) - 1))


def slug(script: Script) -> str:
    """Return a script's name for a scheduler: the phase first, and only letters that every scheduler takes."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", ".".join(reversed(script.name.split("/"))))[:_LONGEST_NAME]


def minutes(hours: float) -> int:
    """Return hours as whole minutes, at least one."""
    return max(1, math.ceil(round(hours * 60, 6)))


def warning_seconds(hours: float) -> int:
    """Return how long before its time is over a job is warned: a tenth of it in whole minutes, between one and ten."""
    return min(600, 60 * math.ceil(minutes(hours) / 10))


def _job_script(plan: Plan, script: Script, template: Template, dialect: Dialect) -> str:
    arguments = (" ROUND" if has_rounds(script) else "") + (" PART" if script.parts > 1 else "")
    parts = f"   (parts count from 0 to {script.parts - 1})" if script.parts > 1 else ""
    site_header, site = template.header(script), template.body(script)
    lines = [
        "#!/bin/bash",
        f"# {' '.join(script.title.split())}",
        "# Does nothing when its work is done, and continues where it was when that is half done.",
        f"# By hand, here and now: bash {script.name.rpartition('/')[2]}.sh{arguments}{parts}",
        *dialect.header,
        *(["# from the template", *site_header] if site_header else []),
        "",
        *_arguments(script, dialect.part),
        *dialect.beginning,
        *_exports(plan, script),
        *(["", "# from the template", *site, "set +eu # whatever it has set"] if site else []),
        "",
        *_command(script),
        "",
        *wrapper_lines(warning_seconds(script.resources.hours), plan.ends_at_readers, dialect.restart),
    ]
    return "\n".join(lines) + "\n"


def _arguments(script: Script, part: str) -> list[str]:
    lines = []
    if has_rounds(script):
        lines.append("round=${1:-${AL_ROUND:?is missing: give the round as the first argument}}")
    if script.parts > 1:
        lines.append(f"part=${{2:-{part}}}")
    return [*lines, ""] if lines else []


def _exports(plan: Plan, script: Script) -> list[str]:
    lines = [f"export {name}={shlex.quote(value)}" for name, value in plan.environment.items()]
    if script.phase in _TRAINS and _AUGMENTATION not in plan.environment:
        lines.append(f"export {_AUGMENTATION}={augmentation_processes(script.resources)}")
    if plan.path:
        lines.append(f'export PATH={shlex.quote(":".join(plan.path))}:"$PATH"')
    return lines


def _command(script: Script) -> list[str]:
    """Return the command as an array of the shell, no option parted from its values."""
    groups: list[str] = []
    for word in script.command:
        if groups and not re.match(r"--?[A-Za-z]", word):
            groups[-1] += f" {shlex.quote(word)}"
        else:
            groups.append(shlex.quote(word))
    if has_rounds(script):
        groups.append('-round "$round"')
    if script.parts > 1:
        groups.append(f'-num_parts {script.parts} -part_id "$part"')
    lines: list[str] = []
    for group in groups:
        if lines and len(lines[-1]) + len(group) < _WIDTH:
            lines[-1] += f" {group}"
        else:
            lines.append(f"    {group}")
    return ["command=(", *lines, ")"]
