"""``nnUNetv2_al_collect``: takes the files that readers returned."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_al.cli.arguments import add_campaign_choice, add_dataset, chosen_campaign, make_parser
from nnunet_al.cli.command import DONE, WAITING, run
from nnunet_al.errors import ReturnError
from nnunet_al.terminal import say
from nnunet_al.text import count, first_names

if TYPE_CHECKING:
    from nnunet_al.campaign.folders import CampaignFolder
    from nnunet_al.collecting.batch_collector import Outcome
    from nnunet_al.collecting.collect import Collection

_DESCRIPTION = """\
Takes the files that readers returned for a batch of nnUNetv2_al_round --annotate. They lie in
round_00k/batch/returned, or in a folder there with the reader's name, and are never moved or changed. Each file is
taken or refused with a reason, as round_00k/batch/collected.csv lists. The same call again changes nothing.
"""

_EPILOG = """\
Exit codes: 0 all of the batch is annotated (or closed); 3 waiting for readers; 2 the call itself was refused.
"""

_INTERRUPTED = "Run the same command again: files that were taken stay, the others are taken then."


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser("nnUNetv2_al_collect", _DESCRIPTION, _EPILOG)
    add_dataset(parser)
    add_campaign_choice(parser)
    add = parser.add_argument
    add("-reader", metavar="NAME", help="who annotated, a pseudonym (default: the folder's name)")
    add("-i", metavar="FOLDER", help="take the files in this folder, not those in returned")
    add("-round", type=int, metavar="K", help="only the batch of round K (default: all)")
    flag = partial(parser.add_argument, action="store_true")
    flag("--reviewed", help="count all regions as reviewed, whatever the readers' batch.csv says")
    flag("--correct", help="the label files in -i FOLDER, named by case, replace earlier annotations")
    flag("--close", help="stop waiting: regions of the last batch that are not annotated go back to the pool")
    flag("--dry_run", help="say which files would be taken or refused, and change nothing")
    return parser


def work(arguments: Namespace) -> int:
    """Collect, and print the result."""
    from nnunet_al.collecting.collect import CollectRequest, collect
    from nnunet_al.collecting.returned_files import check_reader
    from nnunet_al.nnunet.environment import Roots

    roots = Roots.from_environment()
    if arguments.correct and arguments.i is None:
        raise ReturnError("--correct: say with -i FOLDER where the corrected files are.")
    if arguments.correct and arguments.close:
        raise ReturnError("--correct and --close: give one of them.")
    if arguments.i is not None and not Path(arguments.i).is_dir():
        raise ReturnError(f"-i {arguments.i}: there is no such folder.")
    request = CollectRequest(
        reader=None if arguments.reader is None else check_reader(arguments.reader),
        source=None if arguments.i is None else Path(arguments.i).absolute(),
        all_reviewed=arguments.reviewed,
        round=arguments.round,
        correct=arguments.correct,
        close=arguments.close,
        dry_run=arguments.dry_run,
    )
    campaign = chosen_campaign(arguments, roots)
    found = collect(roots, campaign, request)
    _report(found, request.dry_run, campaign)
    return WAITING if found.missing else DONE


def _report(found: Collection, dry_run: bool, campaign: CampaignFolder) -> None:
    from nnunet_al.collecting.batch_collector import KNOWN

    if not found.outcomes:
        say("No file was returned.")
    known = [outcome for outcome in found.outcomes if outcome.state == KNOWN]
    for outcome in found.outcomes:
        if outcome.state != KNOWN or outcome.sentences[0].count(".") > 1:
            say(_line(outcome))
    if known:
        say(f"  {count(len(known), 'file')} had been taken before.")
    for sentence in found.sentences:
        say(f"  {sentence}")
    if dry_run:
        say("Nothing was changed: this was a dry run.")
    if found.round is None:
        return
    if not found.missing:
        say(f"Round {found.round}: nothing is waited for." + ("" if dry_run else f" {_command(campaign)} goes on."))
        return
    ranks: dict[str, list[str]] = {}
    for region in found.missing:
        ranks.setdefault(region.case, []).append(str(found.asked.index(region) + 1))
    some = first_names([f"{case} (rank {', '.join(of)})" for case, of in ranks.items()], 5)
    asked = count(len(found.asked), "region")
    say(f"Round {found.round}: {len(found.missing)} of {asked} wait for readers: {some}.")


def _command(campaign: CampaignFolder) -> str:
    """Return the command that does the next round: that of the campaign's jobs, or a call of ours."""
    from nnunet_al.campaign.decisions import Decisions
    from nnunet_al.jobs.registry import job_folder_of
    from nnunet_al.jobs.summary import command_to_go_on

    folder = job_folder_of(campaign.root)
    if folder is not None:
        return command_to_go_on(str(folder))
    if not campaign.decisions.is_file():
        return "nnUNetv2_al_round"
    return f"nnUNetv2_al_round {Decisions.load(campaign.decisions).options}"


def _line(outcome: Outcome) -> str:
    regions = f", {count(outcome.regions, 'region')}" if outcome.regions else ""
    line = f"  {outcome.state:<8}  round {outcome.round}, {outcome.reader}: {outcome.path.name}{regions}"
    return "\n".join([line, *(f"            {sentence}" for sentence in outcome.sentences)])


main = partial(run, build_parser, work, interrupted=_INTERRUPTED)
