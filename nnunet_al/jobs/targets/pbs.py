"""OpenPBS: a script for ``qsub`` for each of the plan's, and ``submit.sh``, which hands the jobs over."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nnunet_al.jobs.plan import Plan, Script
from nnunet_al.jobs.targets.queue import Queue, Seen, call_program
from nnunet_al.jobs.targets.scheduler import Scheduler
from nnunet_al.jobs.targets.scripts import Dialect, job_scripts, log_lines, minutes, slug
from nnunet_al.jobs.targets.submit_script import Submission, call, entry, submissions
from nnunet_al.jobs.targets.template import Template

_PART = "${PBS_ARRAY_INDEX:?is missing: give the part as the second argument}"
_ID = re.compile(r"(\d+)(?:\[(\d*)\])?\.")  # "12.server"; an array is "12[].server", a part of it "12[3].server"
_STATES = {"Q": "waits", "H": "waits", "W": "waits", "T": "waits", "R": "runs", "E": "runs", "S": "held", "U": "held"}


def _render(plan: Plan, queued: Mapping[str, str], template: Template) -> dict[str, str]:
    """Return the files; see `nnunet_al.jobs.targets.render`."""
    lines = [line for submission in submissions(plan, queued) for line in _lines(plan, submission)]
    return {**job_scripts(plan, template, _dialect), "submit.sh": entry("PBS", _HAND_OVER, "$id", lines)}


def _dialect(script: Script, template: Template) -> Dialect:
    # PBS itself brings a log only when a job has ended
    beginning = [*log_lines(script), '[ -z "${PBS_JOBID:-}" ] || exec >>"$log" 2>&1', ""]
    site = template.header(script)
    header = [*_header(script), *(["# from the template", *site] if site else [])]
    return Dialect(header=header, part=_PART, beginning=beginning)  # PBS gives no warning, so that nothing runs again


def _header(script: Script) -> list[str]:
    resources = script.resources
    hours, rest = divmod(minutes(resources.hours), 60)
    gpus = f":ngpus={resources.gpus}" if resources.gpus else ""
    return [
        f"#PBS -N {slug(script)}",
        f"#PBS -l select=1:ncpus={resources.cpus}:mem={resources.memory_gb}gb{gpus}",
        f"#PBS -l walltime={hours}:{rest:02d}:00",
        "#PBS -j oe",
        "#PBS -o /dev/null",
    ]


def _lines(plan: Plan, submission: Submission) -> list[str]:
    """Return the lines of the entry for a job; its variable holds what stands behind "afterok:"."""
    job, variable, ids = submission.job, submission.variable, ":".join(map(_as_pbs, submission.queued))
    if not submission.is_open:
        return [f"{variable}='{ids}' # {job.key} is in the queue"]
    words = []
    if submission.script.parts > 1:
        first, last = min(submission.parts), max(submission.parts)
        if first == last:  # PBS takes one range, of two parts at least; those that are done do nothing
            first, last = (first - 1, last) if first else (0, 1)
        words.append(f"-J {first}-{last}{f'%{plan.limit}' if plan.limit else ''}")
    if submission.after:
        words.append(f'-W "depend=afterok:{":".join(f"${name}" for name in submission.after)}"')
    lines = call(submission, words)
    return [*lines, f'{variable}="${variable}:{ids}" # these parts are in the queue'] if ids else lines


def _name_of_part(array: str, part: int) -> str:
    return f"{array.removesuffix('[]')}[{part}]"


def _as_pbs(queued: str) -> str:
    array, _, part = queued.partition("_")
    return _name_of_part(array, int(part)) if part else array


def _ask(numbers: Sequence[str]) -> Queue | None:
    answer = call_program("qstat", "-t")
    if answer is None or answer.code:
        return None
    queue: Queue = {}
    for line in answer.lines:
        cells = line.split()  # id, name, user, time used, state, queue
        match = _ID.match(line)
        if match and len(cells) > 4 and match[1] in numbers and match[2] != "" and cells[4] in _STATES:
            part = None if match[2] is None else int(match[2])
            queue.setdefault(match[1], {})[part] = Seen(_STATES[cells[4]])
    return queue


_HAND_OVER = """\
id=$(qsub -v "AL_ROUND=$round" "$@" "$script") || return
id=${id%%.*} # behind it stands the server
""".splitlines()

PBS = Scheduler(
    entry="submit.sh",
    render=_render,
    mark="#PBS",
    ask=_ask,
    cancel="qdel",
    name_of_part=_name_of_part,
)
