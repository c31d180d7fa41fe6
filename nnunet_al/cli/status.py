"""``nnUNetv2_al_status``: the state of a dataset's campaigns and of their jobs."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from argparse import ArgumentParser, Namespace
from datetime import datetime
from functools import partial
from typing import Any

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.overview import campaign_overview, overview_table
from nnunet_al.cli.arguments import add_campaign_choice, add_dataset, chosen_campaigns, make_parser
from nnunet_al.cli.command import run
from nnunet_al.errors import CampaignError
from nnunet_al.jobs.display import Log, Terminal, count_line
from nnunet_al.jobs.folder import JobFolder
from nnunet_al.jobs.job_states import UNREADABLE
from nnunet_al.jobs.registry import folders_of
from nnunet_al.jobs.watching import FolderView, View, look, look_at, watch
from nnunet_al.nnunet.environment import Roots, dataset_name
from nnunet_al.strategies import catalog

_EPILOG = """\
Exit codes of --watch: 0 all is done, 2 something has failed and nothing runs or waits any more, 3 waiting for readers
only. Control-C ends the watching, nothing else.
"""
_CAMPAIGN = re.compile(r"(?P<c>.+?)__(?P<s>.+?)__seed(?P<seed>-?\d+)(?:__(?P<tag>.+))?")


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser(
        "nnUNetv2_al_status", "Shows the campaigns of a dataset, round by round, and the state of their jobs.", _EPILOG
    )
    add_dataset(parser)
    add_campaign_choice(parser)
    flag = partial(parser.add_mutually_exclusive_group().add_argument, action="store_true")
    flag("--json", help="print JSON for scripts, batches and jobs included")
    flag("--watch", help="show running, waiting and failed jobs, with the end of each failed log, until none is left")
    parser.add_argument(
        "-every", type=float, default=30, metavar="SECONDS", help="how often --watch looks (default: 30)"
    )
    return parser


def work(arguments: Namespace) -> int | None:
    """Print the status, or watch; returns the exit code of watching.

    Raises NnunetALError if there is no such dataset, or an option cannot be used.
    """
    if not 1 <= arguments.every <= 86400:
        raise CampaignError(f"-every {arguments.every:g}: give a number of seconds, from 1 to 86400.")
    if arguments.s:
        catalog.get(arguments.s)  # a name that does not exist must not look like jobs that are all done
    roots = Roots.from_environment()
    if arguments.watch:
        return _watch(arguments, roots)
    campaigns = [campaign_overview(folder) for folder in chosen_campaigns(arguments, roots)]
    folders = _job_folders(arguments, roots)
    if arguments.json:
        jobs = [entry for folder in folders for entry in _as_json(folder)]
        print(json.dumps({"campaigns": campaigns, "jobs": jobs}, indent=2))
        for folder in folders:
            if folder.broken:
                print(count_line(folder), file=sys.stderr)
        return None
    print(overview_table(campaigns))
    for folder in folders:
        print(count_line(folder))
    return None


def _watch(arguments: Namespace, roots: Roots) -> int:
    dataset = dataset_name(arguments.d, roots)
    terminal = Terminal(sys.stdout) if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" else None
    log = Log(sys.stdout)

    def show(view: View, is_last: bool) -> None:
        now = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        if terminal:
            terminal.show(view, f"{dataset} at {now}", is_last)
        else:
            log.show(view, now)

    def see() -> View:
        existing = CampaignFolder.of_dataset(roots, dataset)
        started = [folder for folder in existing if _is_chosen(arguments, dataset, f"{dataset}/{folder.name}/")]
        folders = folders_of(roots.results / dataset / "al")
        return look(folders, started, lambda key: _is_chosen(arguments, dataset, key))

    return watch(see, show, time.sleep, arguments.every)


def _job_folders(arguments: Namespace, roots: Roots) -> list[FolderView]:
    dataset = dataset_name(arguments.d, roots)
    views = []
    for root in folders_of(roots.results / dataset / "al"):
        try:
            views.append(look_at(JobFolder(root), lambda key: _is_chosen(arguments, dataset, key))[0])
        except UNREADABLE as error:
            views.append(FolderView.unreadable(root, error))
    return views


def _is_chosen(arguments: Namespace, dataset: str, key: str) -> bool:
    """Tell whether a job's key, "Dataset004_X/2d__random__seed0/fold_0/train 3", fits the options."""
    of_dataset, _, rest = key.partition("/")
    if of_dataset != dataset:
        return False
    campaign, _, rest = rest.partition("/fold_")
    match = _CAMPAIGN.fullmatch(campaign)
    if not match:  # what all campaigns of the dataset share
        return True
    found = {**match.groupdict(""), "seed": int(match["seed"]), "f": int(rest.partition("/")[0])}
    wanted = {name: getattr(arguments, name) for name in found}
    if wanted["s"]:
        wanted["s"] = catalog.get(wanted["s"]).name
    return all(value is None or found[name] == value for name, value in wanted.items())


def _as_json(folder: FolderView) -> list[dict[str, Any]]:
    return [
        {name: getattr(job, name) for name in ("key", "part", "state", "detail")}
        | {"log": str(job.log), "folder": str(folder.root)}
        for job in folder.states
    ]


main = partial(run, build_parser, work, interrupted="What was shown goes on where it runs.")
