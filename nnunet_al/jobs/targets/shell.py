"""One machine: a script for each campaign, and ``run.sh``, which does the rounds of all, on one GPU or several."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from nnunet_al.jobs.plan import Job, Plan
from nnunet_al.jobs.targets.scripts import Dialect, job_script
from nnunet_al.jobs.targets.template import Template


def render(plan: Plan, queued: Mapping[str, str], template: Template) -> dict[str, str]:
    """Return the files; see `nnunet_al.jobs.targets.render`. Nothing is ever queued here."""
    assert not queued, "a machine has no queue"
    files = {f"{script.name}.sh": job_script(plan, script, template, Dialect()) for script in plan.scripts.values()}
    return {**files, "run.sh": _run(plan)}


def _run(plan: Plan) -> str:
    """Return the entry: what campaigns share, then round by round over the campaigns, or a campaign on each GPU.

    A script's jobs are a chain, of which nothing is done any more once one of them, or one that it waits for, failed.
    """
    chains = {name: number for number, name in enumerate(dict.fromkeys(job.script for job in plan.jobs), start=1)}
    shared = [job for job in plan.jobs if plan.scripts[job.script].campaign is None]
    own = [job for job in plan.jobs if plan.scripts[job.script].campaign is not None]
    lines = [_TOP, *_calls(plan, shared, chains)]
    if plan.gpus:
        lines.append(_on_gpus(plan, own, chains))
    else:
        # a stable order: each job still stands behind those that it waits for, which are of its round or an earlier one
        lines += _calls(plan, sorted(own, key=lambda job: job.round or 0), chains)
    return "\n".join([*lines, _BOTTOM])


def _calls(plan: Plan, jobs: Iterable[Job], chains: Mapping[str, int]) -> list[str]:
    return [_call(plan, job, chains) for job in jobs]


def _call(plan: Plan, job: Job, chains: Mapping[str, int]) -> str:
    needed = dict.fromkeys(plan.by_key[key].script for key in job.after if key in plan.by_key)
    words = [
        str(chains[job.script]),
        shlex.quote(job.key),
        "''" if job.round is None else str(job.round),
        shlex.quote(str(plan.log(job))),
        *(str(chains[name]) for name in needed if name != job.script),
    ]
    return f"job {' '.join(words)}"


def _on_gpus(plan: Plan, jobs: list[Job], chains: Mapping[str, int]) -> str:
    by_campaign: dict[str, list[Job]] = {}
    for job in jobs:
        by_campaign.setdefault(str(plan.scripts[job.script].campaign), []).append(job)
    lines = []
    for number, own in enumerate(by_campaign.values(), start=1):
        lines += [f"campaign_{number}() {{", *(f"    {call}" for call in _calls(plan, own, chains)), "}"]
    gpus = " ".join(shlex.quote(gpu) for gpu in plan.gpus)
    return "\n".join([*lines, _GPUS.replace("CAMPAIGNS", str(len(by_campaign))).replace("GPUS", gpus)])


_TOP = """\
#!/usr/bin/env bash
# Does the jobs of this folder on this machine: bash run.sh
# Control-C ends it, and the next call continues. What fails stops its campaign; the others go on.
# Ends with 0 when all is done, with 2 when something failed, with 3 when campaigns only wait for readers.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 2
state=$(mktemp -d "${TMPDIR:-/tmp}/nnunet_al.XXXXXX") || exit 2
trap 'rm -rf "$state"' EXIT
: >"$state/stopped" # a line for each chain of jobs that cannot go on: exit code, what happened

stop() {
    trap '' INT TERM HUP
    for child in $(jobs -p); do kill -TERM "$child" 2>/dev/null; done
    wait
    exit 130
}
trap stop INT TERM HUP

say() { echo "$(date '+%Y-%m-%d %H:%M:%S') $*"; }

# job CHAIN KEY ROUND LOG [CHAIN ...]: does one job, unless its chain or one that it waits for cannot go on
job() {
    local chain=$1 key=$2 round=$3 log=$4 code other
    shift 4
    [ ! -e "$state/$chain" ] || return 0
    for other in "$@"; do
        [ -e "$state/$other" ] || continue
        cp "$state/$other" "$state/$chain"
        printf '%s\\t%s\\n' "$(cat "$state/$chain")" "$key was not begun, as what it waits for did not succeed" \\
            >>"$state/stopped"
        return 0
    done
    say "$key begins${CUDA_VISIBLE_DEVICES:+ on GPU $CUDA_VISIBLE_DEVICES}"
    bash "$here/${key% "$round"}.sh" ${round:+"$round"} </dev/null >>"$log" 2>&1 &
    code=0
    wait $! || code=$?
    [ "$code" -ne 0 ] || return 0
    echo "$code" >"$state/$chain"
    say "$key ended with exit code $code, see $log"
    printf '%s\\t%s\\n' "$code" "$key ended with exit code $code, see $log" >>"$state/stopped"
}
"""

_GPUS = """
# each GPU takes the next campaign that no other has taken; a folder can be made only once
on_gpu() {
    local number
    export CUDA_VISIBLE_DEVICES=$1
    trap stop INT TERM HUP
    for ((number = 1; number <= CAMPAIGNS; number++)); do
        if mkdir "$state/taken_$number" 2>/dev/null; then "campaign_$number"; fi
    done
}
for gpu in GPUS; do on_gpu "$gpu" & done
wait"""

_BOTTOM = """
[ -s "$state/stopped" ] || { say "all is done"; exit 0; }
result=3
while IFS=$'\\t' read -r code words; do
    echo "$words"
    [ "$code" -eq 3 ] || result=2
done <"$state/stopped"
exit $result
"""
