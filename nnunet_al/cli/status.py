"""``nnUNetv2_al_status``: where the campaigns of a dataset stand."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from nnunet_al.campaign.status import campaign_status, status_table
from nnunet_al.cli.arguments import add_campaign_choice, add_dataset, chosen_campaigns, make_parser
from nnunet_al.cli.command import run
from nnunet_al.nnunet.environment import Roots


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser("nnUNetv2_al_status", "Shows the campaigns of a dataset, round by round.")
    add_dataset(parser)
    add_campaign_choice(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for scripts, batches included")
    return parser


def work(arguments: Namespace) -> None:
    """Print the status."""
    campaigns = [campaign_status(folder) for folder in chosen_campaigns(arguments, Roots.from_environment())]
    print(json.dumps({"campaigns": campaigns}, indent=2) if arguments.json else status_table(campaigns))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run(build_parser, work, argv)
