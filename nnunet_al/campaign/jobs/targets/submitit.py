"""submitit: ``submit.py``, which hands jobs over to Slurm, or does them here, by the settings that stand in it.

Of a site's template, lines that begin with #SBATCH stand first in ``slurm_setup``: submitit puts that behind its own
header and in front of the first command, so that Slurm reads them and the site has the last word. Its other lines
follow there, and come before the job's program; on one machine bash runs them before the command. Options by which
submitit finds its jobs again are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from nnunet_al.campaign.jobs.plan import Plan, Script
from nnunet_al.campaign.jobs.submitit_entry import require_submitit
from nnunet_al.campaign.jobs.targets.conduct import RESTARTS
from nnunet_al.campaign.jobs.targets.scripts import minutes, warning_seconds
from nnunet_al.campaign.jobs.targets.template import Template
from nnunet_al.errors import CampaignError

_OURS = {  # how it may be written -> what submitit decides itself
    **{name: name for name in ("array", "dependency", "error", "nodes", "ntasks", "ntasks-per-node", "open-mode")},
    **{name: name for name in ("output", "parsable", "signal", "test-only", "wait", "wrap")},
    **{"a": "array", "d": "dependency", "e": "error", "N": "nodes", "n": "ntasks", "o": "output", "W": "wait"},
}
_OPTION = re.compile(r"#SBATCH\s+(?:--([\w-]+)|-(\w))")
_SHELL_AGAIN = "set +eu  # whatever the template has set"
_WIDTH = 110


def render(plan: Plan, queued: Mapping[str, str], template: Template) -> dict[str, str]:
    """Return the file; see `nnunet_al.campaign.jobs.targets.render`.

    Raises
    ------
    SetupError
        if submitit is not installed.
    CampaignError
        if the template holds an option that submitit needs for itself.
    """
    require_submitit()
    values = {
        "SETTINGS": _literal(_settings(plan, template)),
        "QUEUED": _literal(dict(queued)),
        "RESTARTS": str(RESTARTS),
    }
    return {"submit.py": re.sub(r"@(\w+)@", lambda found: values[found[1]], _SUBMIT)}


def _settings(plan: Plan, template: Template) -> dict[str, dict[str, Any]]:
    """Return what scripts ask for, by their phase; under its own name what differs from the first one of its phase."""
    found: dict[str, dict[str, Any]] = {}
    for script in plan.scripts.values():
        wanted = _settings_of(script, template)
        if found.setdefault(script.phase, wanted) != wanted:
            found[script.name] = wanted
    return found


def _settings_of(script: Script, template: Template) -> dict[str, Any]:
    needs, header, body = script.needs, template.header(script), template.body(script)
    _check(header)
    return {
        "timeout_min": minutes(needs.hours),
        "cpus_per_task": needs.cpus,
        "mem_gb": needs.memory_gb,
        **({"gpus_per_node": needs.gpus} if needs.gpus else {}),
        "slurm_signal_delay_s": warning_seconds(needs.hours),
        **({"slurm_setup": [*header, *([*body, _SHELL_AGAIN] if body else [])]} if header or body else {}),
    }


def _check(header: Iterable[str]) -> None:
    for line in header:
        option = _OPTION.match(line)
        if option and (decided := _OURS.get(option[1] or option[2])):
            raise CampaignError(
                f"-template: the line {line!r} cannot be honoured, because submitit decides --{decided} itself; leave "
                "it out, or use -to slurm."
            )


def _literal(value: Any, indent: str = "") -> str:
    """Write a value as Python reads it, in as few lines as a person likes to read."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or not value or (indent and len(indent + flat) < _WIDTH):
        return flat
    inner = indent + "    "
    if isinstance(value, dict):
        lines = [f"{inner}{json.dumps(key, ensure_ascii=False)}: {_literal(one, inner)}," for key, one in value.items()]
        return "\n".join(["{", *lines, indent + "}"])
    return "\n".join(["[", *(f"{inner}{_literal(one, inner)}," for one in value), indent + "]"])


_SUBMIT = '''\
#!/usr/bin/env python3
"""Hands the jobs of this folder over to Slurm through submitit, each behind those that it waits for: python submit.py

Where there is no Slurm, or by "python submit.py local", they are done here, one after the other. The Python must be the
one in which nnunet-al and submitit are installed.

nnUNetv2_al_jobs --submit calls this script, and leaves out what is done or in the queue. It writes the script anew each
time: what is to stay belongs into its options and the template. A second call of this script alone hands everything
over once more, which costs waiting, but no harm: a job does nothing when its work is done.
"""

import shutil
import sys
from argparse import ArgumentParser
from pathlib import Path

from nnunet_al.campaign.jobs.submitit_entry import NO_LIMIT_MINUTES, JobsToHandOver, require_submitit
from nnunet_al.cli.command import REFUSED, run
from nnunet_al.errors import SetupError
from nnunet_al.stopping import heeding_signals

# What jobs ask for, by phase, in words of submitit.AutoExecutor.update_parameters. Some seconds before their time is
# over (slurm_signal_delay_s) they are told, stop where they can continue, and are put back into the queue.
SETTINGS = @SETTINGS@

# how often a job is put back into the queue because its time was over
RESTARTS = @RESTARTS@

# what is in the queue already: waited for, but not handed over again
QUEUED = @QUEUED@


def to_slurm(jobs):
    """Hand over all jobs; Slurm starts each when those that it waits for have succeeded."""
    import submitit

    ids = {}
    for job in jobs.plan.jobs:
        ids[job.key] = jobs.waiting_ids(job)
        if not jobs.open_parts(job):
            continue
        after = [number for key in job.after for number in ids.get(key, [])]
        if any(number.startswith("local-") for number in after):
            raise SetupError(f"{job.key} waits for what is being done here: call again when that has ended.")
        settings = settings_of(jobs.plan.scripts[job.script])
        executor = submitit.AutoExecutor(jobs.submitit_folder, cluster="slurm", slurm_max_num_timeout=RESTARTS)
        executor.update_parameters(
            name=jobs.name(job),
            slurm_additional_parameters={
                "requeue": True,
                "kill-on-invalid-dep": "yes",
                **({"dependency": "afterok:" + ":".join(after)} if after else {}),
                **jobs.array(job),
            },
            # since its version 22.05, Slurm's srun does not know what sbatch was asked for
            slurm_srun_args=[f"--cpus-per-task={settings['cpus_per_task']}"],
            **settings,
        )
        number = jobs.submit(executor, job, jobs.commands(job, settings["slurm_signal_delay_s"]))
        ids[job.key].append(number)
        print(f"{number}  {job.key}", flush=True)


def here(jobs):
    """Do all jobs on this machine, in the order of the plan; what waits for one that failed is not begun."""
    import submitit

    stopped = []
    for job in jobs.plan.jobs:
        if jobs.waiting_ids(job) or any(key in stopped for key in job.after):
            stopped.append(job.key)
            continue
        print(f"{job.key} begins", flush=True)
        setup = settings_of(jobs.plan.scripts[job.script]).get("slurm_setup", [])
        for part in jobs.open_parts(job):
            executor = submitit.AutoExecutor(jobs.submitit_folder, cluster="local")
            executor.update_parameters(timeout_min=NO_LIMIT_MINUTES)
            if not jobs.do_here(executor, job, part, setup):
                stopped.append(job.key)
                break
    if stopped:
        print("Failed, begun by an earlier call, or not begun because of that:", *stopped, sep="\\n", file=sys.stderr)
    return REFUSED if stopped else None


def settings_of(script):
    return SETTINGS.get(script.name) or SETTINGS[script.phase]


def parser():
    arguments = ArgumentParser(description=__doc__.partition("\\n")[0])
    is_there = "slurm" if shutil.which("srun") else "local"
    arguments.add_argument("where", nargs="?", choices=("slurm", "local"), default=is_there)
    return arguments


def main(arguments):
    require_submitit()
    jobs = JobsToHandOver(Path(__file__).absolute().parent, QUEUED)
    with heeding_signals():
        return to_slurm(jobs) if arguments.where == "slurm" else here(jobs)


if __name__ == "__main__":
    sys.exit(run(parser, main, interrupted="What was handed over is noted; nnUNetv2_al_jobs --submit goes on."))
'''
