"""``nnUNetv2_al_export``: all annotations so far as a plain nnU-Net dataset."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from functools import partial

from nnunet_al.cli.arguments import add_campaign_choice, add_dataset, chosen_campaign, make_parser
from nnunet_al.cli.command import run
from nnunet_al.errors import CampaignError, DatasetError
from nnunet_al.terminal import say


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser(
        "nnUNetv2_al_export",
        "Writes all annotations of a campaign so far as a dataset into nnUNet_raw, with nnU-Net's ignore label\n"
        "where a case is annotated in part, so that any nnU-Net can be trained on it.",
    )
    add_dataset(parser)
    add_campaign_choice(parser)
    parser.add_argument("-o", required=True, metavar="DATASET", help="number (601) or name (Dataset601_Name) to write")
    return parser


def work(arguments: Namespace) -> None:
    """Export."""
    from nnunet_al.campaign.decisions import Decisions, Options
    from nnunet_al.nnunet.environment import Roots
    from nnunet_al.rounds.export import export_dataset
    from nnunet_al.rounds.reopen import open_round

    roots = Roots.from_environment()
    folder = chosen_campaign(arguments, roots)
    name = target_name(arguments.o, Decisions.load(folder.decisions).dataset)
    number = name[7:10]
    for root in (roots.raw, roots.preprocessed, roots.results):
        if taken := sorted(path.name for path in root.glob(f"Dataset{number}_*")):
            raise CampaignError(f"The number {number} is taken by {root / taken[0]}: choose another with -o.")
    context = open_round(folder, roots, 0, Options(device="cpu", workers=1))
    count = export_dataset(context, roots.raw / name)
    say(f"{count} annotated cases were written to {roots.raw / name}.")


def target_name(text: str, source: str) -> str:
    """Return the name of the new dataset: as given, or the old name with the new number.

    Raises DatasetError if the text is neither a number from 1 to 999 nor a name like Dataset601_Name.
    """
    if text.isdigit() and 1 <= int(text) <= 999:
        return f"Dataset{int(text):03d}_{source.partition('_')[2]}"
    if re.fullmatch(r"Dataset\d{3}_[A-Za-z0-9_-]+", text):
        return text
    raise DatasetError(f"-o {text}: give a number from 1 to 999 or a name like Dataset601_Name.")


main = partial(run, build_parser, work)
