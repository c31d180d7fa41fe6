"""LSF: a script for ``bsub`` for each of the plan's, and ``submit.sh``, which hands the jobs over."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from nnunet_al.jobs.plan import Plan, Script
from nnunet_al.jobs.targets.run_wrapper import Restart
from nnunet_al.jobs.targets.scripts import Dialect, job_scripts, log_lines, minutes, slug, warning_seconds
from nnunet_al.jobs.targets.submit_script import Submission, call, entry, ranges, submissions
from nnunet_al.jobs.targets.template import Template

_PART = "$((${LSB_JOBINDEX:?is missing: give the part as the second argument} - 1))"  # LSF counts from 1


def render(plan: Plan, queued: Mapping[str, str], template: Template) -> dict[str, str]:
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
    return Dialect(header=_header(script, template.header(script)), part=_PART, beginning=beginning, restart=_RESTART)


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
    return [*_MEMORY, *lines, *(["# from the template", *site] if site else [])]


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
    if submission.after:
        words.append(f'-ti -w "{" && ".join(f"${name}" for name in submission.after)}"')
    lines = call(submission, words)
    return [*lines, f'{variable}="${variable} && {queued}" # these parts are in the queue'] if queued else lines


def _as_lsf(queued: str) -> str:
    number, _, part = queued.partition("_")
    return f"{number}[{int(part) + 1}]" if part else number


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
