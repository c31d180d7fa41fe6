"""Arguments that several commands share, in nnU-Net's habits: ``-x value``, ``--flag``, snake_case."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.errors import CampaignError, NnunetALError
from nnunet_al.nnunet.environment import Roots, dataset_name
from nnunet_al.strategies import catalog


def make_parser(command: str, description: str, epilog: str = "") -> ArgumentParser:
    """Return a parser that prints its description as it was written."""
    return ArgumentParser(
        prog=command, description=description, epilog=epilog, formatter_class=RawDescriptionHelpFormatter
    )


def add_dataset(parser: ArgumentParser) -> None:
    """Add ``-d``."""
    parser.add_argument(
        "-d", required=True, metavar="DATASET", help="dataset, by number (501) or name (Dataset501_Name)"
    )


def add_campaign_choice(parser: ArgumentParser) -> None:
    """Add the options that choose among the campaigns of a dataset."""
    parser.add_argument("-s", metavar="STRATEGY", help="only campaigns with this strategy")
    parser.add_argument("-c", metavar="CONFIGURATION", help="only campaigns with this configuration")
    parser.add_argument("-f", type=int, metavar="FOLD", help="only campaigns on this fold")
    parser.add_argument("-seed", type=int, help="only campaigns with this seed")
    parser.add_argument("-tag", help='only campaigns with this tag; "": those without one')


def chosen_campaigns(arguments: Namespace, roots: Roots) -> list[CampaignFolder]:
    """Return the campaigns of the dataset that fit the options of :func:`add_campaign_choice`."""
    from nnunet_al.campaign.decisions import Decisions

    strategy = arguments.s and catalog.get(arguments.s).name
    wanted = {"configuration": arguments.c, "fold": arguments.f, "seed": arguments.seed}
    chosen = []
    for folder in CampaignFolder.of_dataset(roots, dataset_name(arguments.d, roots)):
        try:
            decided = Decisions.load(folder.decisions)
        except NnunetALError as error:  # a file is broken, a package gone; the other campaigns have no part in it
            print(f"{folder.root} is left out. {error}", file=sys.stderr)
            continue
        fits = all(value is None or getattr(decided, name) == value for name, value in wanted.items())
        fits = fits and (arguments.tag is None or (decided.tag or "") == arguments.tag)
        if fits and strategy in {None, decided.recipe.name}:
            chosen.append(folder)
    return chosen


def chosen_campaign(arguments: Namespace, roots: Roots) -> CampaignFolder:
    """Return the one campaign that fits the options.

    Without ``-tag`` that is the one without a tag, as for the command that starts campaigns; a campaign with a tag only
    if no other fits.

    Raises CampaignError if none fits, or more than one.
    """
    from nnunet_al.campaign.decisions import Decisions

    chosen = chosen_campaigns(arguments, roots)
    if arguments.tag is None:
        chosen = [folder for folder in chosen if not Decisions.load(folder.decisions).tag] or chosen
    if not chosen:
        raise CampaignError(
            f"No campaign on {dataset_name(arguments.d, roots)} fits these options: nnUNetv2_al_status -d "
            f"{arguments.d} lists the existing ones."
        )
    if len(chosen) > 1:
        names = ", ".join(folder.name for folder in chosen)
        raise CampaignError(f"Several campaigns fit: {names}; choose one with -s, -c, -f, -seed or -tag.")
    return chosen[0]
