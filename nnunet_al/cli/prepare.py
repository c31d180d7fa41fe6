"""``nnUNetv2_al_prepare``: reads and checks a dataset once, for all campaigns."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

from nnunet_al.cli.arguments import add_dataset, make_parser
from nnunet_al.cli.command import run
from nnunet_al.errors import CampaignError
from nnunet_al.terminal import say
from nnunet_al.text import count

_DESCRIPTION = """\
Reads and checks all images and labels of a dataset. Campaigns do that themselves when they start; before many of them
start at the same time, on a cluster, it is done once. Files that are known already are not read again.
"""


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser("nnUNetv2_al_prepare", _DESCRIPTION)
    add_dataset(parser)
    parser.add_argument(
        "-test", choices=["fold", "ts", "none"], default="fold", help="ts: imagesTs and labelsTs too (default: fold)"
    )
    parser.add_argument("-np", type=int, default=2, help="worker processes (default: 2)")
    return parser


def work(arguments: Namespace) -> None:
    """Check the dataset."""
    if arguments.np < 1:
        raise CampaignError(f"-np {arguments.np}: give at least 1.")

    from nnunet_al.campaign.data import check_dataset, labels_line
    from nnunet_al.nnunet.environment import Roots, dataset_name

    roots = Roots.from_environment()
    name = dataset_name(arguments.d, roots)
    data = check_dataset(roots, name, arguments.test, arguments.np)
    cases = len({*data.facts, *data.test_facts})
    say(f"{name} is in order: {count(cases, 'case')} checked.")
    say(labels_line({**data.test_facts, **data.facts}))


main = partial(run, build_parser, work)
