"""``nnUNetv2_al_strategies``: every strategy, its recipe, its cost and its paper."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

from nnunet_al.cli.arguments import make_parser
from nnunet_al.cli.command import run
from nnunet_al.strategies import listing


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser("nnUNetv2_al_strategies", "Lists all strategies and how they compose, or explains one.")
    parser.add_argument(
        "strategy",
        nargs="?",
        help="strategy to explain: a name, or METRIC[+ADDON...], for example bald+stochastic_batches",
    )
    parser.add_argument("--markdown", action="store_true", help="print the built-in strategies as a table in Markdown")
    return parser


def work(arguments: Namespace) -> None:
    """Print the table or the explanation."""
    if arguments.markdown:
        print(listing.markdown())
    else:
        print(listing.explain(arguments.strategy) if arguments.strategy else listing.table())


main = partial(run, build_parser, work)
