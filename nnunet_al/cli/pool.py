"""``nnUNetv2_al_pool``: the cases of a campaign, and how some come and go while it lasts."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_al.cli.arguments import add_campaign_choice, add_dataset, chosen_campaign, make_parser
from nnunet_al.cli.command import run
from nnunet_al.errors import CampaignError
from nnunet_al.terminal import say
from nnunet_al.text import count

if TYPE_CHECKING:
    from nnunet_al.campaign.pool_request import PoolChange

_DESCRIPTION = """\
Shows the cases of a campaign: annotated, waiting, untouched, withdrawn, and added to the dataset since the campaign
began. -add or --add takes these into the pool. -withdraw takes cases out of the campaign, after a withdrawn consent or
for a bad scan: nothing of them is used any more, and the command lists the files that still hold their data.
"""

_EPILOG = """\
Works between rounds, and while a batch waits for annotation. Annotations stay as they are, and so do the numbers of all
regions. The same call again changes nothing.
"""


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser("nnUNetv2_al_pool", _DESCRIPTION, _EPILOG)
    add_dataset(parser)
    add_campaign_choice(parser)
    add, either = parser.add_argument, parser.add_mutually_exclusive_group().add_argument
    either("--add", action="store_true", help="add all cases that were added to the dataset since the campaign began")
    either(
        "-add",
        nargs="+",
        default=[],
        metavar="CASE",
        dest="names",
        help="add these, or put them back after they were withdrawn",
    )
    add("-withdraw", nargs="+", default=[], metavar="CASE", help="take these out, test cases too")
    add("-reason", default="", metavar="TEXT", help="kept with the change in campaign.json")
    add("-groups", metavar="FILE", help="table of participants with the added cases, where the campaign has groups")
    add("-np", type=int, default=2, help="worker processes for reading images (default: 2)")
    add("--dry_run", action="store_true", help="say which cases would be added or withdrawn, and change nothing")
    return parser


def work(arguments: Namespace) -> None:
    """Show the pool or change it."""
    from nnunet_al.campaign.decisions import Decisions
    from nnunet_al.campaign.pool_request import PoolRequest
    from nnunet_al.campaign.pool_state import pool_state, state_table
    from nnunet_al.campaign.remaining_data import remaining_data
    from nnunet_al.nnunet.environment import Roots
    from nnunet_al.rounds.pool_changes import change_pool

    if arguments.np < 1:
        raise CampaignError(f"-np {arguments.np}: give at least 1.")
    roots = Roots.from_environment()
    folder = chosen_campaign(arguments, roots)
    if not (arguments.add or arguments.names or arguments.withdraw):
        if arguments.reason or arguments.groups or arguments.dry_run:
            raise CampaignError("Nothing is to be changed: name cases with -add, --add or -withdraw.")
        decided = Decisions.load(folder.decisions)
        say(state_table(folder, decided, pool_state(roots, folder, decided)))
        return
    request = PoolRequest(
        add=tuple(arguments.names),
        withdraw=tuple(arguments.withdraw),
        add_new=arguments.add,
        reason=arguments.reason,
        groups=None if arguments.groups is None else Path(arguments.groups),
        dry_run=arguments.dry_run,
    )
    change = change_pool(roots, folder, request, arguments.np)
    for line in _summary(change):
        say(line)
    decided = change.decided
    for case in change.withdrawn:
        others = {*decided.cases, *decided.withdrawn_cases, *decided.left_out_cases} - {case}
        found = remaining_data(roots, folder, decided, case, others)
        say(f"What still holds data of {case}:")
        for line in found:
            say(f"  {line}")
    if arguments.dry_run:
        say("Nothing was changed: this was a dry run.")


def _summary(change: PoolChange) -> list[str]:
    from nnunet_al.campaign.pool_state import named

    decided, tested = change.decided, count(len(change.decided.test_cases), "case")
    lines = []
    if change.added:
        lines.append(f"Added: {named(change.added)}, with {count(change.regions, 'region')}.")
    if change.with_labels:
        lines.append(f"What their labels hold counts as annotated: {named(change.with_labels)}.")
    if change.put_back:
        to_test = sorted({*change.put_back} & {*decided.test_cases})
        if of_pool := sorted({*change.put_back} - {*to_test}):
            lines.append(f"Put back, with what was annotated of them: {named(of_pool)}.")
        if to_test:
            lines.append(f"Put back, to test on as before: {named(to_test)}; models are tested on {tested} again.")
    if change.withdrawn:
        lines.append(f"Withdrawn: {named(change.withdrawn)}.")
        if tests := sorted({*change.withdrawn} & {*decided.pool_changes[-1]["test"]}):
            lines.append(
                f"{named(tests)} of it was for the test: from now on models are tested on {tested}, so that their "
                "means do not compare with those of earlier rounds."
            )
    if change.cleared:
        lines.append(
            f"The pictures and maps that reports keep of {count(len(change.cleared), 'round')} are removed, since they "
            "may show what was withdrawn."
        )
    if change.unchanged:
        lines.append(f"As asked for already: {named(change.unchanged)}.")
    if not lines:
        lines.append("The dataset has no new cases.")
    lines.append(f"The pool has {count(len(decided.pool_cases), 'case')}; models are tested on {tested}.")
    return lines


main = partial(run, build_parser, work)
