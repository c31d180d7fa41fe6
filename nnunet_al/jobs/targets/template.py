"""A site's additions to every script: lines for its scheduler, and commands that must come before ours.

A template is a text file::

    #SBATCH --account=radiology
    [gpu]
    #SBATCH --partition=a100
    module load cuda
    [train]
    #SBATCH --time=72:00:00

Lines before the first section, or under ``[all]``, are for all scripts; those under ``[gpu]`` or ``[cpu]`` for scripts
that need a GPU or none; those under the name of a phase for that phase. Lines that begin with the scheduler's mark go
behind ours into the script's header, where the last of several lines counts; all others go before the command.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_al.campaign import stages
from nnunet_al.errors import CampaignError
from nnunet_al.jobs.plan import Script

ALL, GPU, CPU = "all", "gpu", "cpu"
SECTIONS = (ALL, GPU, CPU, "prepare_dataset", "start", *stages.PHASES, "round")
_SECTION = re.compile(r"\[([\w-]+)\]")  # a blank behind the bracket makes it a test of the shell

OTHER_MARKS = ("#PBS", "#COBALT", "#$")
"""How lines begin that are read by schedulers for which no jobs can be written: PBS, Cobalt, Grid Engine."""


@dataclass(frozen=True)
class Template:
    """Lines of a site, by section and in the order in which they stand.

    Attributes
    ----------
    headers : section -> lines for the scheduler
    bodies : section -> lines of shell
    """

    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bodies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def header(self, script: Script) -> list[str]:
        """Return the scheduler's lines for a script, the most specific ones last."""
        return [line for section in _sections_of(script) for line in self.headers.get(section, ())]

    def body(self, script: Script) -> list[str]:
        """Return the lines of shell that must come before a script's command."""
        return [line for section in _sections_of(script) for line in self.bodies.get(section, ())]


EMPTY = Template()


def read_template(path: Path, mark: str, marks: Collection[str]) -> Template:
    """Read a site's template, a text file.

    Lines for the scheduler begin with ``mark`` ("#SBATCH"), which is empty without a scheduler; ``marks`` holds those
    of all schedulers.

    Raises CampaignError if the file cannot be read, a section is unknown or a line is meant for another scheduler.
    """
    headers: dict[str, list[str]] = {}
    bodies: dict[str, list[str]] = {}
    section = ALL
    for number, line in enumerate(_lines(path), start=1):
        named = _SECTION.fullmatch(line.strip())
        if named:
            section = named[1]
            if section not in SECTIONS:
                raise CampaignError(
                    f"{path}, line {number}: there is no section [{section}]; use one of {', '.join(SECTIONS)}."
                )
        elif mark and line.startswith(mark):
            headers.setdefault(section, []).append(line)
        elif re.split(r"\s", line, maxsplit=1)[0] in marks:
            meant = f"lines for the scheduler begin with {mark} here" if mark else "there is no scheduler here"
            raise CampaignError(f"{path}, line {number}: {line.split()[0]} is for another scheduler; {meant}.")
        elif not (number == 1 and line.startswith("#!")):
            bodies.setdefault(section, []).append(line)
    return Template(
        {section: tuple(lines) for section, lines in headers.items()},
        {section: tuple(kept) for section, lines in bodies.items() if (kept := _without_blank_edges(lines))},
    )


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CampaignError(f"The template {path} cannot be read ({error.strerror}): name a text file.") from error
    except UnicodeDecodeError as error:
        raise CampaignError(f"The template {path} is not a text file in UTF-8: convert it.") from error
    return [line.rstrip() for line in text.splitlines()]


def _without_blank_edges(lines: list[str]) -> list[str]:
    filled = [number for number, line in enumerate(lines) if line]
    return lines[filled[0] : filled[-1] + 1] if filled else []


def _sections_of(script: Script) -> tuple[str, ...]:
    return (ALL, GPU if script.resources.gpus else CPU, script.phase)
