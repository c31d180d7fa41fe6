"""``nnUNetv2_al_round``: one round of active learning."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

from nnunet_al.campaign.stages import PHASES
from nnunet_al.cli.arguments import add_dataset, make_parser
from nnunet_al.cli.command import run
from nnunet_al.cli.round_arguments import add_decided, add_names, add_readers, add_where, options_of, request_of
from nnunet_al.errors import CampaignError

_DESCRIPTION = """\
Does one round of active learning: starts the campaign if there is none, continues an interrupted round, else does the
next one. Round 0 asks for an initial batch; every later round trains on what is annotated, evaluates on the test cases,
scores the pool and asks for the next batch, which the dataset's own labels answer, or people with --annotate.
"""

_EPILOG = """\
The options of a campaign's start hold until its end; later calls may leave them out.
nnU-Net's variables nnUNet_raw, nnUNet_preprocessed and nnUNet_results must be set.
"""


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser("nnUNetv2_al_round", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add_dataset(parser)
    add("-s", required=True, metavar="STRATEGY", help="a name or METRIC[+ADDON...]; nnUNetv2_al_strategies lists them")
    add("-f", type=int, default=0, metavar="FOLD", help="fold whose validation cases are the test set (default: 0)")
    add("-seed", type=int, default=0, help="seed of every draw (default: 0)")
    add("-round", type=int, metavar="K", help="do round K, and nothing when it is done")
    add("-phase", choices=PHASES, help="do only this phase of round K, as the jobs of nnUNetv2_al_jobs do")
    add_names(parser)
    add_decided(parser)
    add_readers(parser)
    add_where(parser)
    return parser


def work(arguments: Namespace) -> None:
    """Do the round."""
    if arguments.phase is not None and arguments.round is None:
        raise CampaignError(f"-phase {arguments.phase}: give its round with -round K.")

    from nnunet_al.nnunet.environment import Roots, dataset_name
    from nnunet_al.rounds.phase import do_phase
    from nnunet_al.rounds.round import do_round

    roots = Roots.from_environment()
    request = request_of(
        arguments, dataset_name(arguments.d, roots), strategy=arguments.s, fold=arguments.f, seed=arguments.seed
    )
    if arguments.phase is not None:
        do_phase(roots, request, options_of(arguments), arguments.round, arguments.phase)
    else:
        do_round(roots, request, options_of(arguments), arguments.round)


main = partial(run, build_parser, work)
