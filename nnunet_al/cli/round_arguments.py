"""Shared by the commands that do rounds: their options, and the request that these make."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _ActionsContainer
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_al import settings
from nnunet_al.campaign.decisions import Options
from nnunet_al.campaign.request import Request
from nnunet_al.cli.settings import recipe_parameters
from nnunet_al.errors import StrategyError
from nnunet_al.settings import READERS, SETTINGS, Setting, settings_of


def add_campaigns(parser: ArgumentParser, required: bool) -> None:
    """Add the options that name many campaigns: datasets, strategies, folds and seeds."""
    add = partial(parser.add_argument, nargs="+")
    add("-d", required=required, metavar="DATASET", help="datasets, by number (501) or name (Dataset501_Name)")
    add(
        "-s",
        required=required,
        metavar="STRATEGY",
        help="names or METRIC[+ADDON...]; nnUNetv2_al_strategies lists them",
    )
    add("-f", type=int, default=[0], metavar="FOLD", help="folds whose validation cases are the test set (default: 0)")
    add("-seeds", type=int, default=[0], metavar="SEED", help="seeds of every draw (default: 0)")


def add_names(parser: ArgumentParser, several: bool = False) -> None:
    """Add the options that name a campaign, or ``several``, beside its dataset, strategy, fold and seed."""
    add = parser.add_argument
    add(
        "-posterior",
        choices=["mc_dropout", "tta", "ensemble"],
        help="source of posterior samples (default: the strategy's); the same as the add-on of that name in -s",
    )
    add(
        "-c",
        nargs="+" if several else None,
        default=["2d"] if several else "2d",
        metavar="CONFIGURATION",
        help="2d or 3d_fullres (default: 2d)",
    )
    add("-tag", help="keeps campaigns apart that differ in anything else")


def add_decided(parser: ArgumentParser) -> None:
    """Add the options that are decided when a campaign starts, those of groups of cases included."""
    decided = parser.add_argument_group("decided when the campaign starts")
    _add_settings(decided, settings_of(settings.Batches))
    decided.add_argument("-passes", type=int, help="posterior samples (default: the strategy's)")
    decided.add_argument(
        "-set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="other parameters of the strategy's recipe",
    )
    for part in (settings.Machinery, settings.Training, settings.Succession):
        _add_settings(decided, settings_of(part))

    groups = parser.add_argument_group("groups of cases (decided when the campaign starts)")
    groups.add_argument(
        "-groups",
        metavar="FILE",
        help="table of participants, as BIDS has it (participants.tsv) or as CSV; only case and group are kept",
    )
    _add_settings(groups, settings_of(settings.CaseGroups))


def add_readers(parser: ArgumentParser) -> None:
    """Add the options of campaigns that people annotate."""
    _add_settings(parser.add_argument_group("annotation by people (decided when the campaign starts)"), READERS)


def _add_settings(parser: _ActionsContainer, some: Iterable[Setting]) -> None:
    for setting in some:
        if setting.type is bool:
            parser.add_argument(setting.flag, action="store_true", default=None, help=setting.help)
            continue
        parser.add_argument(
            setting.flag,
            type=str if setting.type in (tuple, dict, Path) else setting.type,
            nargs="+" if setting.type in (tuple, dict) else None,
            choices=setting.choices,
            metavar=setting.metavar,
            help=setting.help,
        )


def add_where(parser: ArgumentParser, many: bool = False) -> None:
    """Add the options that say where and how rounds run.

    One campaign may be scored in several calls; ``many`` campaigns of one call may share their first model.
    """
    here = parser.add_argument_group("where and how it runs (changes no batch)")
    add_running(here)
    add = here.add_argument
    add("-np", type=int, default=2, help="worker processes for preprocessing and reading (default: 2)")
    if many:
        add_no_sharing(here)
    else:
        add(
            "--share_first",
            action="store_true",
            help="take the first model from a campaign that has trained on the same data, where there is one",
        )
        add("-num_parts", type=int, default=1, help="number of shards of scoring, one call for each (default: 1)")
        add("-part_id", type=int, default=0, help="shard of this call, from 0 (default: 0)")


def add_no_sharing(parser: _ActionsContainer) -> None:
    """Add the option that keeps many campaigns from sharing their first model."""
    parser.add_argument(
        "--no_sharing",
        action="store_true",
        help="train each campaign's first model, also where another campaign has trained on the same data",
    )


def add_running(parser: _ActionsContainer) -> None:
    """Add the options that say how rounds run wherever they do; jobs of a cluster have them too."""
    add = parser.add_argument
    add("-device", default="cuda", choices=["cuda", "cpu", "mps"], help="default: cuda")
    add("-num_gpus", type=int, default=1, help="GPUs of one machine to train on, as nnU-Net does (default: 1)")
    add("-scoring_batch_size", type=int, default=64, help="regions scored at a time (default: 64)")
    add(
        "-keep",
        choices=["all", "last", "none"],
        default="all",
        help="checkpoints to keep, besides the one that the next round starts from (default: all)",
    )
    add_keep_predictions(parser)
    add("--verbose", action="store_true", help="show nnU-Net's output")


def add_keep_predictions(parser: _ActionsContainer) -> None:
    """Add the option that keeps predictions of test cases for the report."""
    text = "keep each round's predictions of the first N test cases, which the report draws (default: 0)"
    parser.add_argument("-keep_predictions", type=int, default=0, metavar="N", help=text)


def request_of(arguments: Namespace, dataset: str, strategy: str, fold: int, seed: int) -> Request:
    """Return the request for one campaign; options that the command does not have are left open.

    Raises StrategyError, CampaignError if a setting cannot be read.
    """
    return Request(
        dataset=dataset,
        configuration=arguments.c,
        fold=fold,
        seed=seed,
        tag=arguments.tag or None,
        strategy=strategy,
        posterior=arguments.posterior,
        parameters=parameters_of(arguments),
        groups=arguments.groups,
        **{setting.name: _asked(arguments, setting) for setting in SETTINGS},
    )


def _asked(arguments: Namespace, setting: Setting) -> Any:
    value = getattr(arguments, setting.argument, None)
    return (setting.read(value) if value else None) if setting.type in (tuple, dict) else value


def parameters_of(arguments: Namespace) -> dict[str, Any]:
    """Return the parameters of the strategy's recipe from ``-set`` and ``-passes``.

    Raises StrategyError if a setting cannot be read, or the passes are given twice.
    """
    parameters = recipe_parameters(arguments.set)
    if arguments.passes is not None:
        if "passes" in parameters:
            raise StrategyError("-passes and -set passes=...: give one of them.")
        parameters["passes"] = arguments.passes
    return parameters


def options_of(arguments: Namespace) -> Options:
    """Return where and how the rounds run."""
    return Options(
        device=arguments.device,
        workers=getattr(arguments, "np", 1),
        gpus=arguments.num_gpus,
        scoring_batch_size=arguments.scoring_batch_size,
        parts=getattr(arguments, "num_parts", 1),
        part=getattr(arguments, "part_id", 0),
        keep=arguments.keep,
        keep_predictions=arguments.keep_predictions,
        verbose=arguments.verbose,
        share_first=getattr(arguments, "share_first", not getattr(arguments, "no_sharing", True)),
    )
