"""``nnUNetv2_al_strategies``: every strategy, its recipe and its paper."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from nnunet_al.cli.arguments import make_parser
from nnunet_al.cli.command import run
from nnunet_al.strategies import catalog


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser("nnUNetv2_al_strategies", "Lists all strategies, or explains one.")
    parser.add_argument("strategy", nargs="?", help="name of the strategy to explain")
    return parser


def work(arguments: Namespace) -> None:
    """Print the table or the explanation."""
    print(catalog.explain(arguments.strategy) if arguments.strategy else catalog.table())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run(build_parser, work, argv)
