"""LSF: a script for ``bsub`` for each of the plan's, and ``submit.sh``, which hands the jobs over."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from nnunet_al.jobs.plan import Plan, Script
from nnunet_al.jobs.targets.queue import NEVER, Queue, Seen, call_program
from nnunet_al.jobs.targets.run_wrapper import Restart
from nnunet_al.jobs.targets.scheduler import Scheduler
from nnunet_al.jobs.targets.scripts import Dialect, job_scripts, log_lines, minutes, slug, warning_seconds
from nnunet_al.jobs.targets.submit_script import Submission, call, entry, ranges, submissions
from nnunet_al.jobs.targets.template import Template

_PART = "$((${LSB_JOBINDEX:?is missing: give the part as the second argument} - 1))"  # LSF counts from 1

_ID = re.compile(r"(\d+)(?:\[(\d+)\])?")
_NOT_FOUND = re.compile(r"is not found|No (?:matching|unfinished)?\s*job found", re.IGNORECASE)
_STATES = {
    "RUN": Seen("runs"),
    "PROV": Seen("runs", "its host is being made ready"),
    "UNKWN": Seen("runs", "its host does not answer"),
    "PSUSP": Seen("held", "held"),
    "USUSP": Seen("held", "suspended by its owner"),
    "SSUSP": Seen("held", "suspended by the scheduler"),
}
_NEVER = "never satisfied"


def _render(plan: Plan, queued: Mapping[str, str], template: Template) -> dict[str, str]:
    """Return the files; see `nnunet_al.jobs.targets.render`."""
    lines = [line for submission in submissions(plan, queued) for line in _lines(plan, submission)]
    return {**job_scripts(plan, template, _dialect), "submit.sh": entry("LSF", _HAND_OVER, "done($id)", lines)}


def _dialect(script: Script, template: Template) -> Dialect:
    beginning = [
        *log_lines(script),
        "# LSF itself writes a log when a job has ended only, and none of a run that is followed by another",
        '[ -z "${LSB_JOBID:-}" ] || exec >>"$log" 2>&1',
        "",
    ]
    return Dialect(_header(script, template.header(script)), _PART, beginning, _RESTART)


def _header(script: Script, site: list[str]) -> list[str]:
    """Return the lines for LSF; ours are left out where the site has its own, since LSF adds up several -R."""
    resources = script.resources
    hours, rest = divmod(minutes(resources.hours), 60)
    options = [
        f"-J {slug(script)}",
        f"-n {resources.cpus}",
        f'-R "span[hosts=1] rusage[mem={resources.memory_gb}GB]"',
        f"-W {hours}:{rest:02d}",
        *([f'-gpu "num={resources.gpus}"'] if resources.gpus else []),
        "-o /dev/null",
        "-r",
        '-Q "99"',
        "-wa USR1",
        f"-wt {warning_seconds(resources.hours) // 60}",
    ]
    taken = {word for line in site for word in line.split()[1:2]}
    lines = [f"#BSUB {option}" for option in options if option.split()[0] not in taken]
    return [*_MEMORY, *lines]


def _lines(plan: Plan, submission: Submission) -> list[str]:
    """Return the lines of the entry for a job; its variable holds a condition for ``bsub -w``."""
    job, variable = submission.job, submission.variable
    queued = " && ".join(f"done({_as_lsf(one)})" for one in submission.queued)
    if not submission.is_open:
        return [f"{variable}='{queued}' # {job.key} is in the queue"]
    words = []
    if submission.script.parts > 1:
        array = f"[{ranges(part + 1 for part in submission.parts)}]{f'%{plan.limit}' if plan.limit else ''}"
        words.append(f"-J {shlex.quote(slug(submission.script) + array)}")
    conditions = [f"${name}" for name in submission.after]
    conditions += [f"${{{name}//done(/ended(}}" for name in submission.behind]
    if conditions:
        words.append(f'-ti -w "{" && ".join(conditions)}"')
    lines = call(submission, words)
    return [*lines, f'{variable}="${variable} && {queued}" # these parts are in the queue'] if queued else lines


def _name_of_part(number: str, part: int) -> str:
    return f"{number}[{part + 1}]"


def _as_lsf(queued: str) -> str:
    number, _, part = queued.partition("_")
    return _name_of_part(number, int(part)) if part else number


def _ask(numbers: Sequence[str]) -> Queue | None:
    fields = "jobid jobindex stat"
    answer = _bjobs(f"{fields} pend_reason", numbers)
    if answer is None:  # older versions have no such field
        answer = _bjobs(fields, numbers)
    if answer is None:
        return None
    wanted = set(numbers)
    queue: Queue = {}
    for line in answer:
        id_, index, state, reason = (*(cell.strip() for cell in line.split("|", 3)), "", "", "")[:4]
        match = _ID.fullmatch(id_)
        seen = match and _seen(state, reason)
        if match and seen and match[1] in wanted:
            number = int(match[2] or (index if index.isdigit() else 0))  # elements are counted from 1
            queue.setdefault(match[1], {})[number - 1 if number else None] = seen
    return queue


def _bjobs(fields: str, numbers: Sequence[str]) -> list[str] | None:
    """Return the lines of bjobs; None where it failed for another reason than jobs that it has forgotten."""
    answer = call_program("bjobs", "-u", "all", "-noheader", "-o", f"{fields} delimiter='|'", *numbers)
    if answer is None:
        return None
    complaints = [line for line in answer.errors.splitlines() if line.strip()]
    if answer.code and not (complaints and all(_NOT_FOUND.search(line) for line in complaints)):
        return None
    return answer.lines


def _seen(state: str, reason: str) -> Seen | None:
    if state not in {"PEND", "WAIT"}:
        return _STATES.get(state)  # None: DONE, EXIT, ZOMBI
    return Seen("held", NEVER) if _NEVER in reason else Seen("waits", "" if reason == "-" else reason.rstrip(";. "))


_MEMORY = (
    "# Memory: some sites count it for each CPU, some for each job, and LSF before 10.1.0.2 knows no unit here. A line",
    "# of the template with -R takes the place of ours; so does one with any other option.",
)

_RESTART = Restart(
    job="LSB_JOBID",
    before=('asks="asks LSF to run job $LSB_JOBID again"',),
    count='$(grep -cF "$asks" "$log")',
    words="$asks",
    command="exit 99",
)

_HAND_OVER = """\
local words
unset BSUB_QUIET # or there would be no words
words=$(AL_ROUND=$round bsub "$@" <"$script") || return
id=${words#*Job <} # "Job <123> is submitted to queue <normal>."
id=${id%%>*}
case $id in '' | *[!0-9]*) echo "$words" >&2 && return 1 ;; esac
""".splitlines()

LSF = Scheduler(entry="submit.sh", render=_render, mark="#BSUB", ask=_ask, cancel="bkill", name_of_part=_name_of_part)
