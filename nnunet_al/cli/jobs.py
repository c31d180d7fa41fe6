"""``nnUNetv2_al_jobs``: the same campaigns as scripts for a cluster, or for the GPUs of one machine."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_al.cli.arguments import make_parser
from nnunet_al.cli.command import DONE, WAITING, run
from nnunet_al.cli.round_arguments import (
    add_campaigns,
    add_decided,
    add_names,
    add_no_sharing,
    add_readers,
    add_running,
    options_of,
)
from nnunet_al.errors import CampaignError
from nnunet_al.jobs.targets import MARKS, TARGETS, render
from nnunet_al.settings import SETTINGS
from nnunet_al.terminal import say

if TYPE_CHECKING:
    from nnunet_al.jobs.folder import Stored
    from nnunet_al.jobs.request import JobsRequest
    from nnunet_al.jobs.targets.template import Template

_DESCRIPTION = """\
Writes campaigns, those of nnUNetv2_al_run with the same options, as jobs into a folder: readable scripts, a plan, and
one file that hands all jobs over. Without --submit nothing is started. On a cluster a round is cut into jobs (prepare,
train, evaluate, score, ..., select), each of which does nothing when its work is done and continues where it was
stopped; on one machine (-to shell) a job is a round.
"""

_EPILOG = """\
nnUNetv2_al_jobs -o FOLDER --submit, without -d, repeats the last request: finished jobs are left out, jobs in the queue
stay there, and the rest is handed over again. nnUNetv2_al_status --watch shows the jobs. With --annotate the jobs end
with the batch for readers; once nnUNetv2_al_collect has taken all of it, the same call continues.
Exit codes: 0 done, 2 refused, 3 waiting for readers only.
"""

_REPEATED = {"o", "submit", "resubmit"}


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser("nnUNetv2_al_jobs", _DESCRIPTION, _EPILOG)
    parser.allow_abbrev = False  # what was asked for is stored, and must mean the same in later versions
    add_campaigns(parser, required=False)  # a later call may repeat what was asked for
    add_names(parser, several=True)
    _add_jobs(parser)
    running = parser.add_argument_group("how rounds run (changes no batch)")
    add_running(running)
    add_no_sharing(running)
    add_decided(parser)
    add_readers(parser)
    return parser


def _add_jobs(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("jobs").add_argument
    add("-o", required=True, metavar="FOLDER", help="folder of the jobs, new or of an earlier call")
    add("-to", choices=TARGETS, help="scheduler; the folder of an earlier call keeps its own")
    add(
        "-template",
        metavar="FILE",
        help="lines that your site needs in jobs, for its scheduler (#SBATCH --account=x) or as commands (module load "
        "cuda): in all jobs, or under [gpu], [cpu] or the name of a phase ([train])",
    )
    add("-num_parts", type=int, default=1, help="jobs that share a pass over the pool (default: 1)")
    add("-limit", type=int, metavar="N", help="tasks of an array that may run at the same time (default: all)")
    add("-gpus", nargs="+", default=[], metavar="GPU", help="with -to shell: one campaign on each of these at a time")
    for flag, unit in {"-hours": "hours", "-memory": "GB of memory", "-cpus": "CPUs and worker processes"}.items():
        text = f"{unit} of a job; KIND=N for one kind of jobs, such as train=48"
        add(flag, nargs="+", default=[], metavar="[KIND=]N", help=text)
    add("--submit", action="store_true", help="hand the jobs over")
    add(
        "--resubmit",
        action="store_true",
        help="like --submit where no scheduler answers: all jobs that are not done, also if handed over before",
    )


def work(arguments: Namespace, argv: Sequence[str]) -> int:
    """Write the jobs, and hand them over if that is asked for; returns the exit code.

    Raises NnunetALError if an option cannot be used; no file was changed then.
    """
    from nnunet_al.jobs.folder import JobFolder
    from nnunet_al.jobs.planning import make_plan, waiting_campaigns
    from nnunet_al.jobs.registry import remember
    from nnunet_al.jobs.submission import cancel, check_same_parts, hand_over, look, submit
    from nnunet_al.jobs.summary import command_to_go_on, summary

    folder = JobFolder(Path(arguments.o).absolute())
    folder.check()
    # a broken plan is made anew where everything is asked for; what was handed over is known without it
    stored = folder.load() if folder.exists and arguments.d is None else folder.surviving()
    asked, argv, directory = _asked(arguments, argv, stored)
    request, template = _request(asked, argv, stored), _template(asked)
    target = request.target
    render(target, make_plan(request), {}, template)  # whatever is wrong is said before a file is changed

    with folder.alone():
        queue = look(folder, target)  # before the markers are read: what ends meanwhile is done then
        plan, history = make_plan(request), folder.history()
        if stored is not None:
            check_same_parts(stored.plan, plan, history, queue)
        found = hand_over(plan, history, queue, arguments.resubmit)
        files = render(target, plan, found.queued, template)
        folder.write(plan, target, files, TARGETS[target].entry, directory)
        for dataset in request.datasets:
            remember(request.roots.results / dataset / "al", folder.root)
        waiting = waiting_campaigns(request)
        before = None if stored is None else stored.plan
        for sentence in summary(arguments.o, plan, found, request.campaigns, waiting, before):
            say(sentence)
        if not plan.jobs:
            return WAITING if waiting else DONE
        if not (arguments.submit or arguments.resubmit):
            if found.left(plan):
                say(f"Nothing was started. This hands them over: {command_to_go_on(arguments.o)}")
            return DONE
        if found.orphans:
            cancel(target, found.orphans)
        return submit(folder, target) if found.left(plan) else DONE


def _asked(arguments: Namespace, argv: Sequence[str], stored: Stored | None) -> tuple[Namespace, tuple[str, ...], Path]:
    """Return the options of this call, or of the repeated one, their words, and the folder of relative paths."""
    directory = Path.cwd()
    if arguments.d is None:
        bare = vars(build_parser().parse_args(["-o", arguments.o]))
        given = [name for name, value in vars(arguments).items() if value != bare[name] and name not in _REPEATED]
        if given:
            raise CampaignError(
                f"-{given[0]} without -d: name datasets and strategies, too, or give only -o, and --submit, to repeat "
                "what was asked for before."
            )
        if stored is None:
            raise CampaignError(f"-o {arguments.o} holds no jobs yet: say which with -d, -s and -to.")
        argv, directory = stored.plan.request, stored.directory
        arguments = build_parser().parse_args(argv)
    words = [word for word in argv if word not in {"--submit", "--resubmit"}]
    if arguments.to is None:
        if stored is None:
            raise CampaignError(f"-to: say what runs the jobs, one of {', '.join(TARGETS)}.")
        words += ["-to", stored.target]
        arguments.to = stored.target
    if not arguments.s:
        raise CampaignError("-s: name at least one strategy; nnUNetv2_al_strategies lists them.")
    files = [setting.argument for setting in SETTINGS if setting.type is Path]
    for name in ("groups", "template", *files):
        if getattr(arguments, name) is not None:  # jobs run elsewhere
            setattr(arguments, name, str(directory / getattr(arguments, name)))
    return arguments, tuple(words), directory


def _request(arguments: Namespace, argv: tuple[str, ...], stored: Stored | None) -> JobsRequest:
    from nnunet_al.campaign.planned import plan_campaigns
    from nnunet_al.cli.run import requests_of_all
    from nnunet_al.jobs.request import JobsRequest
    from nnunet_al.jobs.resources import read_overrides
    from nnunet_al.nnunet.environment import Roots, dataset_name

    roots = Roots.from_environment()
    names = {dataset: dataset_name(dataset, roots) for dataset in arguments.d}
    requests = [
        replace(one, dataset=names[one.dataset])
        for configuration in arguments.c
        for one in requests_of_all(Namespace(**{**vars(arguments), "c": configuration}))
    ]
    request = JobsRequest(
        campaigns=tuple(plan_campaigns(roots, requests)),
        roots=roots,
        options=options_of(arguments),
        target=arguments.to,
        datasets={name: dataset for dataset, name in reversed(names.items())},
        limit=arguments.limit,
        gpus=tuple(arguments.gpus),
        resources=read_overrides(arguments.hours, arguments.memory, arguments.cpus),
        argv=argv,
    )
    if stored is not None:
        _check_same_place(arguments.o, request, stored)
    return request


def _check_same_place(folder: str, request: JobsRequest, stored: Stored) -> None:
    """Refuse to go on in a folder whose jobs work elsewhere, or were handed over to somebody else."""
    results = stored.plan.environment.get("nnUNet_results")
    if results != str(request.roots.results):
        raise CampaignError(
            f"-o {folder}: its jobs work with nnUNet_results={results}, but that is {request.roots.results} now; "
            "set it as it was, or choose another folder."
        )
    if request.target != stored.target:
        raise CampaignError(
            f"-to {request.target}: the jobs in {folder} are for {stored.target}; choose another folder, or leave -to "
            "out."
        )


def _template(arguments: Namespace) -> Template:
    from nnunet_al.jobs.targets.template import EMPTY, read_template

    if arguments.template is None:
        return EMPTY
    return read_template(Path(arguments.template), TARGETS[arguments.to].mark, MARKS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    words = sys.argv[1:] if argv is None else list(argv)
    return run(build_parser, partial(work, argv=words), words)
