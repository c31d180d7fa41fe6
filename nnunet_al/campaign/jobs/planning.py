"""From what a user asks for to a plan: scripts, and the jobs that are still to be done."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from nnunet_al.campaign.jobs.commands import PREPARE_COMMAND, ROUND_COMMAND
from nnunet_al.campaign.jobs.done import CampaignProgress, is_dataset_checked
from nnunet_al.campaign.jobs.lane import LOGS, Lane
from nnunet_al.campaign.jobs.needs import PREPARE_DATASET, needs_of
from nnunet_al.campaign.jobs.plan import Job, Plan, Script
from nnunet_al.campaign.jobs.request import Request
from nnunet_al.campaign.planned import Planned, as_it_began

_VARIABLES = ("nnUNet_extTrainer", "nnUNet_n_proc_DA", "nnUNet_def_n_proc", "nnUNet_compile", "OMP_NUM_THREADS")
_MOST_CPUS = 8


def make_plan(request: Request) -> Plan:
    """Return the scripts of all campaigns, and the jobs that are not done yet, round by round.

    Where people annotate, a campaign's jobs end with the next batch for them, and there are none while they are at it.

    Raises
    ------
    NnunetALError
        if options do not go together, a campaign was started otherwise, or its files cannot be read.
    """
    request.check()
    most_cpus = None if request.uses_phases else _share_of_this_machine(request)
    lanes = [Lane(request, as_it_began(campaign), most_cpus) for campaign in request.campaigns]
    of_dataset: dict[str, list[Lane]] = {}
    for lane in lanes:
        of_dataset.setdefault(lane.dataset, []).append(lane)
    checks = {dataset: _check_script(request, members, most_cpus) for dataset, members in of_dataset.items()}
    found = [Job(checks[dataset].name, None, (), _missing(members)) for dataset, members in of_dataset.items()]
    for number in range(max((lane.last for lane in lanes), default=-1) + 1):
        for lane in lanes:
            found += lane.jobs_of(number, checks[lane.dataset].name)
    done = frozenset(job.key for job in found if not job.missing)
    scripts = [*checks.values(), *(script for lane in lanes for script in lane.scripts())]
    return Plan(
        scripts={script.name: script for script in scripts},
        jobs=tuple(
            Job(job.script, job.round, tuple(key for key in job.after if key not in done), job.missing)
            for job in found
            if job.missing
        ),
        request=request.argv,
        environment=_environment(request),
        path=_program_folders(),
        limit=request.limit,
        ends_at_readers=any(lane.annotate for lane in lanes),
        gpus=request.gpus,
        done=done,
    )


def waiting_campaigns(request: Request) -> list[Planned]:
    """Return the campaigns whose readers have not annotated all of the last batch that they got."""
    return [campaign for campaign in request.campaigns if CampaignProgress(campaign.folder.root).waits_for_readers]


def _check_script(request: Request, lanes: Sequence[Lane], most_cpus: int | None) -> Script:
    """Return the script that reads a dataset once for all of its campaigns."""
    dataset = lanes[0].dataset
    needs = needs_of(PREPARE_DATASET, request.needs, on_device=False, most_cpus=most_cpus)
    test = ("-test", "ts") if any(lane.test == "ts" for lane in lanes) else ()
    return Script(
        name=f"{dataset}/prepare",
        phase=PREPARE_DATASET,
        title=f"{dataset}: reads and checks the dataset once, for all campaigns.",
        command=(PREPARE_COMMAND, "-d", request.datasets.get(dataset, dataset), *test, "-np", str(needs.cpus)),
        needs=needs,
        logs=request.roots.results / dataset / "al" / LOGS,
    )


def _missing(lanes: Sequence[Lane]) -> tuple[int, ...]:
    """Tell whether campaigns are going to start on a dataset that was not checked yet: (0,), else ()."""
    is_wanted = any(lane.needs_check for lane in lanes) and not is_dataset_checked(lanes[0].dataset)
    return (0,) if is_wanted else ()


def _environment(request: Request) -> dict[str, str]:
    """Return the variables that jobs must have: nnU-Net's folders, and those of its other ones that are set here."""
    roots = request.roots
    folders = {"nnUNet_raw": roots.raw, "nnUNet_preprocessed": roots.preprocessed, "nnUNet_results": roots.results}
    kept = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    return {**{name: str(folder.absolute()) for name, folder in folders.items()}, **kept}


def _program_folders() -> tuple[str, ...]:
    """Return where the jobs' programs lie: beside this interpreter, or wherever they are found now."""
    beside = Path(sys.executable).absolute().parent
    found = shutil.which(ROUND_COMMAND)
    elsewhere = [] if found is None or (beside / ROUND_COMMAND).is_file() else [Path(found).absolute().parent]
    return tuple(str(folder) for folder in dict.fromkeys([*elsewhere, beside]))


def _share_of_this_machine(request: Request) -> int:
    """Return the CPUs that each of the campaigns that run at once may take."""
    return min(_MOST_CPUS, (os.cpu_count() or 1) // max(1, len(request.gpus)))
