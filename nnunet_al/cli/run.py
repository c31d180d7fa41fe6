"""``nnUNetv2_al_run``: many campaigns in one call."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from dataclasses import replace
from functools import partial
from typing import Any

from nnunet_al.campaign.request import Request
from nnunet_al.cli.arguments import make_parser
from nnunet_al.cli.command import DONE, REFUSED, WAITING, run
from nnunet_al.cli.round_arguments import (
    add_campaigns,
    add_decided,
    add_names,
    add_where,
    options_of,
    parameters_of,
    request_of,
)
from nnunet_al.errors import CampaignError, StrategyError
from nnunet_al.strategies import catalog

_DESCRIPTION = """\
Does campaigns up to their last round (-rounds), one for each strategy, fold and seed. All do a round before one does
the next, so that they can be compared whenever the call is stopped. The same call continues, and does nothing when all
is done. Campaigns that differ only in the strategy train their first model once. A campaign that is refused stays
behind; the others go on. With --full one more campaign for each fold and seed trains on the whole pool; the report
takes its Dice as the reference.
"""

FULL = "full"
"""Tag of the campaigns that train on the whole pool; behind the tag of the others, if they have one."""

_OF_BATCHES = (
    "unit",
    "b",
    "candidates",
    "initial",
    "initial_strategy",
    "initial_groups",
    "overlap",
    "rounds",
    "engine",
)

_EPILOG = """\
The campaigns are those of nnUNetv2_al_round with the same options. -passes and -set go to the strategies that have such
a parameter. With --verbose the table of progress comes after each round.
Exit codes: 0 done, 2 something was refused, 3 waiting for labels of the dataset, 130 interrupted.
"""


def build_parser() -> ArgumentParser:
    """Return the command's parser."""
    parser = make_parser("nnUNetv2_al_run", _DESCRIPTION, _EPILOG)
    add_campaigns(parser, required=True)
    add_names(parser)
    add_decided(parser)
    add_where(parser, many=True)
    parser.add_argument("--annotate", action="store_true", help=SUPPRESS)  # to be refused with a reason
    return parser


def work(arguments: Namespace) -> int:
    """Do the campaigns; returns the exit code.

    Raises NnunetALError if a name or an option cannot be used; nothing was begun then.
    """
    if arguments.annotate:
        raise CampaignError(
            "--annotate: people work on one campaign at a time; start it with nnUNetv2_al_round --annotate."
        )
    requests = requests_of_all(arguments)

    from nnunet_al.campaign.planned import plan_campaigns
    from nnunet_al.nnunet.devices import check_devices
    from nnunet_al.nnunet.environment import Roots, dataset_name
    from nnunet_al.rounds.many import do_campaigns

    roots = Roots.from_environment()
    options = options_of(arguments)
    options.check()
    names = {dataset: dataset_name(dataset, roots) for dataset in arguments.d}
    planned = plan_campaigns(roots, [replace(w, dataset=names[w.dataset]) for w in requests])
    check_devices(options.device, options.gpus)
    stopped = do_campaigns(roots, planned, options)
    for sentence in stopped.sentences():
        print(f"Error: {sentence}", file=sys.stderr)
    if stopped.refused or stopped.busy:
        return REFUSED
    return WAITING if stopped.waiting else DONE


def requests_of_all(arguments: Namespace) -> list[Request]:
    """Return the request for each campaign, strategies of one fold and seed next to each other.

    Raises StrategyError if a strategy does not exist, or none of them has a parameter that is set.
    """
    asked = parameters_of(arguments)
    known = {strategy: catalog.get(strategy, arguments.posterior).parameters for strategy in arguments.s}
    for name, value in asked.items():
        if not any(name in parameters for parameters in known.values()):
            flag = f"-passes {value}" if arguments.passes is not None and name == "passes" else f"-set {name}={value}"
            raise StrategyError(f"{flag}: no strategy of {', '.join(arguments.s)} has such a parameter; leave it out.")
    options = Namespace(**{**vars(arguments), "full": None})
    found = [
        replace(
            request_of(options, dataset, strategy, fold, seed),
            parameters={name: value for name, value in asked.items() if name in known[strategy]},
        )
        for dataset in arguments.d
        for fold in arguments.f
        for seed in arguments.seeds
        for strategy in arguments.s
    ]
    if not arguments.full:
        return found
    chosen: dict[str, Any] = {**dict.fromkeys(_OF_BATCHES), "passes": None, "set": [], "posterior": None, "full": True}
    chosen["tag"] = FULL if not arguments.tag else f"{arguments.tag}_{FULL}"
    options = Namespace(**{**vars(arguments), **chosen})
    return found + [
        request_of(options, dataset, "random", fold, seed)
        for dataset in arguments.d
        for fold in arguments.f
        for seed in arguments.seeds
    ]


main = partial(run, build_parser, work)
