"""Slurm: a script for ``sbatch`` for each of the plan's, and ``submit.sh``, which hands the jobs over."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence

from nnunet_al.jobs.plan import Job, Plan, Script
from nnunet_al.jobs.targets.queue import NEVER, Answer, Queue, Seen, call_program
from nnunet_al.jobs.targets.run_wrapper import Restart
from nnunet_al.jobs.targets.scheduler import Scheduler
from nnunet_al.jobs.targets.scripts import Dialect, job_scripts, log_lines, minutes, slug, warning_seconds
from nnunet_al.jobs.targets.submit_script import Submission, call, entry, ranges, submissions
from nnunet_al.jobs.targets.template import Template

_PART = "${SLURM_ARRAY_TASK_ID:?is missing: give the part as the second argument}"
_MARKED = "\0"

_ID = re.compile(r"(\d+)(?:_(\d+))?")
_ENDED = "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY REVOKED TIMEOUT"
_STATES: dict[str, Seen | None] = {
    **dict.fromkeys(_ENDED.split(), None),
    **dict.fromkeys(("RUNNING", "RESIZING", "SIGNALING", "STAGE_OUT"), Seen("runs")),
    "CONFIGURING": Seen("runs", "its node is being made ready"),
    "COMPLETING": Seen("runs", "it is ending"),
    **dict.fromkeys(("REQUEUED", "REQUEUE_FED", "PREEMPTED"), Seen("waits", "to run again")),
    **dict.fromkeys(("SUSPENDED", "STOPPED"), Seen("held", "suspended")),
    **dict.fromkeys(("REQUEUE_HOLD", "SPECIAL_EXIT"), Seen("held", "held after it was put back into the queue")),
}
_REASONS = {
    "None": Seen("waits", "the scheduler has not looked at it yet"),
    "Dependency": Seen("waits", "for other jobs"),
    "Resources": Seen("waits", "for free resources"),
    "Priority": Seen("waits", "behind jobs of a higher priority"),
    "JobArrayTaskLimit": Seen("waits", "as many tasks of this array run as may"),
    "BeginTime": Seen("waits", "for its time to begin"),
    "DependencyNeverSatisfied": Seen("held", NEVER),
    "JobHeldUser": Seen("held", "held by its owner"),
    "JobHeldAdmin": Seen("held", "held by an administrator"),
    "PartitionTimeLimit": Seen("held", "it asks for more hours than its partition allows"),
    "PartitionNodeLimit": Seen("held", "it asks for more nodes than its partition allows"),
    "BadConstraints": Seen("held", "no node has the resources that it asks for"),
}


def _render(plan: Plan, queued: Mapping[str, str], template: Template) -> dict[str, str]:
    """Return the files; see `nnunet_al.jobs.targets.render`."""
    lines = [line for submission in submissions(plan, queued) for line in _lines(plan, submission)]
    return {**job_scripts(plan, template, _dialect), "submit.sh": entry("Slurm", _HAND_OVER, "$id", lines)}


def _dialect(script: Script, template: Template) -> Dialect:
    job = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" if script.parts > 1 else "$SLURM_JOB_ID"
    beginning = []
    if script.parts > 1 and "\\" in str(script.logs):
        # Slurm replaces nothing in a path with a backslash: its own words on all parts share one log
        beginning = [*log_lines(script), 'exec >>"$log" 2>&1', ""]
    restart = Restart(
        job="SLURM_JOB_ID",
        count="${SLURM_RESTART_COUNT:-0}",
        words="asks Slurm to run the job again",
        command=f'scontrol requeue "{job}"',
    )
    return Dialect(_header(script), _PART, beginning, restart)


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
    """Return the lines of the entry for a job; its variable holds the ids behind "afterok:"."""
    job, variable, ids = submission.job, submission.variable, ":".join(submission.queued)
    if not submission.is_open:
        return [f"{variable}={ids} # {job.key} is in the queue"]
    options = [f"--output={_pattern(plan, job, submission.script)}"]
    if submission.script.parts > 1:
        options.append(f"--array={ranges(submission.parts)}{f'%{plan.limit}' if plan.limit else ''}")
    words = [shlex.quote(option) for option in options]
    waits = {"afterok": submission.after, "afterany": submission.behind}
    conditions = [":".join([kind, *(f"${name}" for name in names)]) for kind, names in waits.items() if names]
    if conditions:
        words.append(f'--dependency="{",".join(conditions)}"')
    lines = call(submission, words)
    return [*lines, f"{variable}=${variable}:{ids} # these parts are in the queue"] if ids else lines


def _pattern(plan: Plan, job: Job, script: Script) -> str:
    """Return the log's path as Slurm reads it: "%" begins a replacement, and a backslash quotes the next character.

    (See "filename pattern" in the manual of sbatch; one backslash anywhere switches all replacements off.)
    """
    if "\\" in str(script.logs):
        return str(plan.log(job)).replace("\\", "\\\\")
    log = str(plan.log(job, _MARKED if script.parts > 1 else ""))
    return log.replace("%", "%%").replace(_MARKED, "%a")


def _ask(numbers: Sequence[str]) -> Queue | None:
    answer = _squeue("-j", ",".join(numbers))
    if answer is not None and answer.code and "Invalid job id" in answer.errors:
        if len(numbers) == 1:
            return {}
        answer = _squeue("-u", str(os.getuid()))  # some versions refuse all ids if they forgot one
    if answer is None or answer.code:
        return None
    wanted = set(numbers)
    queue: Queue = {}
    for line in answer.lines:
        id_, _, rest = line.strip().partition("|")
        state, _, reason = rest.partition("|")
        match = _ID.fullmatch(id_)
        seen = match and state and _seen(state, reason.strip())
        if match and seen and match[1] in wanted:
            queue.setdefault(match[1], {})[None if match[2] is None else int(match[2])] = seen
    return queue


def _squeue(*which: str) -> Answer | None:
    # SQUEUE_STATES and others, which a person has set for their own eyes, would change the list
    return call_program("squeue", "-h", "-r", "-o", "%i|%T|%r", *which, without="SQUEUE_")


def _seen(state: str, reason: str) -> Seen | None:
    if state in _STATES:
        return _STATES[state]
    # others hold a job, too, such as "launch failed requeued held"
    return _REASONS.get(reason) or Seen("held" if "held" in reason else "waits", reason)


_HAND_OVER = """\
id=$(sbatch --parsable --kill-on-invalid-dep=yes "$@" "$script" ${round:+"$round"}) || return
id=${id%%;*} # behind it stands the cluster, where there are several
""".splitlines()

SLURM = Scheduler(
    entry="submit.sh", render=_render, mark="#SBATCH", ask=_ask, cancel="scancel", name_of_part="{}_{}".format
)
