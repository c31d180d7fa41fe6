"""Slurm: a script for ``sbatch`` for each of the plan's, and ``submit.sh``, which hands the jobs over."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from nnunet_al.jobs.plan import Job, Plan, Script
from nnunet_al.jobs.targets.run_wrapper import Restart
from nnunet_al.jobs.targets.scripts import Dialect, job_scripts, log_lines, minutes, slug, warning_seconds
from nnunet_al.jobs.targets.submit_script import Submission, call, entry, ranges, submissions
from nnunet_al.jobs.targets.template import Template

_PART = "${SLURM_ARRAY_TASK_ID:?is missing: give the part as the second argument}"
_MARKED = "\0"


def render(plan: Plan, queued: Mapping[str, str], template: Template) -> dict[str, str]:
    """Return the files; see `nnunet_al.jobs.targets.render`."""
    lines = [line for submission in submissions(plan, queued) for line in _lines(plan, submission)]
    return {**job_scripts(plan, template, _dialect), "submit.sh": entry("Slurm", _HAND_OVER, "$id", lines)}


def _dialect(script: Script, template: Template) -> Dialect:
    job = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" if script.parts > 1 else "$SLURM_JOB_ID"
    beginning = []
    if script.parts > 1 and "\\" in str(script.logs):
        # Slurm replaces nothing in a path with a backslash: its own words on all parts share one log
        beginning = [*log_lines(script), 'exec >>"$log" 2>&1', ""]
    site = template.header(script)
    return Dialect(
        header=[*_header(script), *(["# from the template", *site] if site else [])],
        part=_PART,
        beginning=beginning,
        restart=Restart(
            job="SLURM_JOB_ID",
            count="${SLURM_RESTART_COUNT:-0}",
            words="asks Slurm to run the job again",
            command=f'scontrol requeue "{job}"',
        ),
    )


def _header(script: Script) -> list[str]:
    resources = script.resources
    hours, rest = divmod(minutes(resources.hours), 60)
    options = [
        f"--job-name={slug(script)}",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={resources.cpus}",
        f"--mem={resources.memory_gb}G",
        f"--time={hours}:{rest:02d}:00",
        *([f"--gres=gpu:{resources.gpus}"] if resources.gpus else []),
        "--requeue",
        "--open-mode=append",
        f"--signal=B:USR1@{warning_seconds(resources.hours)}",
    ]
    return [f"#SBATCH {option}" for option in options]


def _lines(plan: Plan, submission: Submission) -> list[str]:
    """Return the lines of the entry for a job; its variable holds what stands behind "afterok:"."""
    job, variable, ids = submission.job, submission.variable, ":".join(submission.queued)
    if not submission.is_open:
        return [f"{variable}={ids} # {job.key} is in the queue"]
    options = [f"--output={_pattern(plan, job, submission.script)}"]
    if submission.script.parts > 1:
        options.append(f"--array={ranges(submission.parts)}{f'%{plan.limit}' if plan.limit else ''}")
    words = [shlex.quote(option) for option in options]
    if submission.after:
        words.append(f'--dependency="afterok:{":".join(f"${name}" for name in submission.after)}"')
    lines = call(submission, words)
    return [*lines, f"{variable}=${variable}:{ids} # these parts are in the queue"] if ids else lines


def _pattern(plan: Plan, job: Job, script: Script) -> str:
    """Return the log's path as Slurm reads it: "%" begins a replacement, and a backslash takes what follows as it is.

    (See "filename pattern" in the manual of sbatch; one backslash anywhere switches all replacements off.)
    """
    if "\\" in str(script.logs):
        return str(plan.log(job)).replace("\\", "\\\\")
    log = str(plan.log(job, _MARKED if script.parts > 1 else ""))
    return log.replace("%", "%%").replace(_MARKED, "%a")


_HAND_OVER = """\
id=$(sbatch --parsable --kill-on-invalid-dep=yes "$@" "$script" ${round:+"$round"}) || return
id=${id%%;*} # behind it stands the cluster, where there are several
""".splitlines()
