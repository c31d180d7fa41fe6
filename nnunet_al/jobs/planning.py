"""The plan for a user's request: scripts, and the jobs that are still to be done."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_al.campaign.planned import Planned, as_it_began
from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.campaign.stages import PREPARE_DATASET
from nnunet_al.jobs.campaign_jobs import LOGS, CampaignJobs
from nnunet_al.jobs.commands import PREPARE_COMMAND, ROUND_COMMAND
from nnunet_al.jobs.done_parts import is_dataset_checked
from nnunet_al.jobs.plan import Job, Plan, Script
from nnunet_al.jobs.request import JobsRequest
from nnunet_al.jobs.resources import resources_of

_VARIABLES = ("nnUNet_extTrainer", "nnUNet_n_proc_DA", "nnUNet_def_n_proc", "nnUNet_compile", "OMP_NUM_THREADS")
_MOST_CPUS = 8


def make_plan(request: JobsRequest) -> Plan:
    """Return the scripts of all campaigns, and the jobs that are not done yet, round by round.

    Where people annotate, a campaign's jobs end with the next batch for them, and there are none while they annotate.

    Raises NnunetALError if options do not go together, a campaign was started otherwise, or its files cannot be read.
    """
    request.check()
    share = (os.cpu_count() or 1) // max(1, len(request.gpus))  # of each of the campaigns that run at the same time
    most_cpus = None if request.uses_phases else min(_MOST_CPUS, share)
    campaigns = [CampaignJobs(request, as_it_began(campaign), most_cpus) for campaign in request.campaigns]
    of_dataset: dict[str, list[CampaignJobs]] = {}
    for campaign in campaigns:
        of_dataset.setdefault(campaign.dataset, []).append(campaign)
    checks = {dataset: _check_script(request, members, most_cpus) for dataset, members in of_dataset.items()}
    found = [Job(checks[dataset].name, None, (), _missing(members)) for dataset, members in of_dataset.items()]
    trained_first: dict[str, CampaignJobs] = {}
    for campaign in campaigns:
        trained_first.setdefault(campaign.first_training, campaign)
    for number in range(max((campaign.last for campaign in campaigns), default=-1) + 1):
        for campaign in campaigns:
            first = trained_first[campaign.first_training]
            found += campaign.jobs_of(number, checks[campaign.dataset].name, first)
    done = frozenset(job.key for job in found if not job.missing)
    scripts = [*checks.values(), *(script for campaign in campaigns for script in campaign.scripts())]
    return Plan(
        scripts={script.name: script for script in scripts},
        jobs=tuple(
            replace(
                job,
                after=tuple(key for key in job.after if key not in done),
                behind=tuple(key for key in job.behind if key not in done),
            )
            for job in found
            if job.missing
        ),
        request=request.argv,
        environment=_environment(request),
        path=_program_folders(),
        limit=request.limit,
        ends_at_readers=any(campaign.annotate for campaign in campaigns),
        gpus=request.gpus,
        done=done,
    )


def waiting_campaigns(request: JobsRequest) -> list[Planned]:
    """Return the campaigns whose readers have not annotated all of the last batch that they got."""
    return [campaign for campaign in request.campaigns if CampaignProgress(campaign.folder.root).waits_for_readers]


def _check_script(request: JobsRequest, campaigns: Sequence[CampaignJobs], most_cpus: int | None) -> Script:
    """Return the script that reads a dataset once for all of its campaigns."""
    dataset = campaigns[0].dataset
    resources = resources_of(PREPARE_DATASET, request.resources, on_device=False, most_cpus=most_cpus)
    test = ("-test", "ts") if any(campaign.test == "ts" for campaign in campaigns) else ()
    return Script(
        name=f"{dataset}/prepare",
        phase=PREPARE_DATASET,
        title=f"{dataset}: reads and checks the dataset once, for all campaigns.",
        command=(PREPARE_COMMAND, "-d", request.datasets.get(dataset, dataset), *test, "-np", str(resources.cpus)),
        resources=resources,
        logs=request.roots.results / dataset / "al" / LOGS,
    )


def _missing(campaigns: Sequence[CampaignJobs]) -> tuple[int, ...]:
    """Tell whether campaigns are going to start on a dataset that was not checked yet: (0,), else ()."""
    is_wanted = any(campaign.needs_check for campaign in campaigns) and not is_dataset_checked(campaigns[0].dataset)
    return (0,) if is_wanted else ()


def _environment(request: JobsRequest) -> dict[str, str]:
    """Return the variables that jobs must have: nnU-Net's folders, and its optional variables that are set here."""
    roots = request.roots
    folders = {"nnUNet_raw": roots.raw, "nnUNet_preprocessed": roots.preprocessed, "nnUNet_results": roots.results}
    kept = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    return {**{name: str(folder.absolute()) for name, folder in folders.items()}, **kept}


def _program_folders() -> tuple[str, ...]:
    """Return the folders of the jobs' programs: this interpreter's, after that of PATH if they are not beside it."""
    beside = Path(sys.executable).absolute().parent
    found = shutil.which(ROUND_COMMAND)
    elsewhere = [] if found is None or (beside / ROUND_COMMAND).is_file() else [Path(found).absolute().parent]
    return tuple(str(folder) for folder in dict.fromkeys([*elsewhere, beside]))
