"""``nnUNetv2_al_report``: one HTML file on one or many campaigns, with all its numbers as CSV beside it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

from nnunet_al.cli.arguments import add_campaign_choice, chosen_campaigns, make_parser
from nnunet_al.cli.command import run
from nnunet_al.errors import CampaignError
from nnunet_al.terminal import say

_DESCRIPTION = """\
Writes a report on the campaigns of one or more datasets: learning curves with intervals over folds and seeds, budget
to reach a Dice coefficient, pairwise penalties, classes, groups, cost of annotation, and for the first campaign of each
strategy the selected regions, embeddings, uncertainty against error and redundancy. It is one HTML file that needs no
network, with every number as CSV beside it. The campaigns stay as they are.
"""

_EPILOG = """\
Parts that need a round's model are computed once and kept in the round's folder, so that a second report is quick.
Without the device that they need they are left out, which the report says.
"""


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser("nnUNetv2_al_report", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("-d", required=True, nargs="+", metavar="DATASET", help="datasets, by number (501) or name (Dataset501_Name)")
    add_campaign_choice(parser)
    add("-o", default="nnunet_al_report", metavar="FOLDER", help="output folder (default: nnunet_al_report)")
    add(
        "-full_dice",
        type=float,
        metavar="X",
        help="Dice of a model trained on everything, to which budgets refer (default: that of nnUNetv2_al_run --full, "
        "else the best that was reached)",
    )
    add("-regions", type=int, default=8, metavar="N", help="regions shown of each campaign's batch (default: 8)")
    add("--maps", action="store_true", help="write the strategies' own maps of the batches as volumes, for a viewer")
    add("--no_evidence", action="store_true", help="leave out the parts that need a round's model")
    add(
        "-device",
        default="auto",
        choices=["auto", "cuda", "cpu", "mps"],
        help="where models run (default: on a GPU; where there is none, on the CPU if they were trained on one)",
    )
    add("-np", type=int, default=2, help="worker processes (default: 2)")
    return parser


def work(arguments: Namespace) -> None:
    """Write the report.

    Raises CampaignError if no campaign fits the options, or an option makes no sense.
    """
    from nnunet_al.campaign.decisions import Options
    from nnunet_al.nnunet.environment import Roots, dataset_name
    from nnunet_al.report.page.report import write_report

    roots = Roots.from_environment()
    options = Options(device=arguments.device, workers=arguments.np)
    options.check()
    if arguments.regions < 0:
        raise CampaignError(f"-regions {arguments.regions}: give a number from 0.")
    if arguments.full_dice is not None and not 0 < arguments.full_dice <= 1:
        raise CampaignError(f"-full_dice {arguments.full_dice}: give a Dice coefficient, above 0 and up to 1.")
    if arguments.maps and arguments.no_evidence:
        raise CampaignError("--maps: the maps need a round's model; leave --no_evidence out.")
    names = list(dict.fromkeys(dataset_name(name, roots) for name in arguments.d))
    folders = [
        folder for name in names for folder in chosen_campaigns(Namespace(**{**vars(arguments), "d": name}), roots)
    ]
    if not folders:
        raise CampaignError(
            f"No campaign on {' or '.join(names)} fits these options: nnUNetv2_al_status -d {arguments.d[0]} lists "
            "the existing ones."
        )
    evidence = None if arguments.no_evidence else (roots, options)
    page = write_report(folders, Path(arguments.o), arguments.full_dice, arguments.regions, evidence, arguments.maps)
    say(f"Report: {page}")


main = partial(run, build_parser, work, interrupted="The report was not written; the campaigns are as they were.")
