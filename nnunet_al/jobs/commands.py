"""The command lines of jobs: what a user asked of a campaign, in words that the commands read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_al.campaign.decisions import Options
from nnunet_al.campaign.planned import Planned
from nnunet_al.campaign.request import Request
from nnunet_al.errors import StrategyError

ROUND_COMMAND, PREPARE_COMMAND = "nnUNetv2_al_round", "nnUNetv2_al_prepare"

_VALUES = {
    "unit": "-unit", "budget": "-b", "initial": "-initial", "initial_strategy": "-initial_strategy",
    "overlap": "-overlap", "rounds": "-rounds", "test": "-test", "engine": "-engine", "precision": "-precision",
    "trainer": "-tr", "planner": "-pl", "plans": "-p", "epochs": "-epochs", "iterations": "-iterations",
    "batch_size": "-batch_size", "optimizer": "-optimizer", "dropout": "-dropout", "hand_out": "-format",
    "readings": "-readings", "consensus": "-consensus",
}  # fmt: skip
_FLAGS = {
    "from_scratch": "--from_scratch",
    "update_intensities": "--update_intensities",
    "annotate": "--annotate",
}
_FILES = {"groups": "-groups", "pretrained_weights": "-pretrained_weights"}
_LISTS = {"group_by": "-group_by", "roi_classes": "-roi_classes"}
_PAIRS = {"parameters": "-set", "initial_groups": "-initial_groups"}


def campaign_words(campaign: Planned, dataset: str, strategy: str | None = None) -> tuple[str, ...]:
    """Return the options that name a campaign; ``dataset`` and ``strategy`` as they are to be written."""
    request = campaign.request
    tag = ("-tag", request.tag) if request.tag else ()
    name = strategy or campaign.strategy
    return (
        *("-d", dataset, "-c", request.configuration, "-s", name, "-f", str(request.fold), "-seed", str(request.seed)),
        *tag,
    )


def start_words(campaign: Planned, dataset: str) -> tuple[str, ...]:
    """Return the options with which a campaign starts: those that name it, and all that the user decided."""
    request = campaign.request
    if _recipe(request) == _recipe(replace(request, strategy=campaign.strategy, posterior=None)):
        return (*campaign_words(campaign, dataset), *decided_words(request))
    # the parameters alone made it the strategy of that name, which does not take them again
    posterior = ("-posterior", request.posterior) if request.posterior else ()
    return (*campaign_words(campaign, dataset, request.strategy), *posterior, *decided_words(request))


def decided_words(request: Request) -> tuple[str, ...]:
    """Return the options for what is decided when a campaign starts; what the user left open is left out."""
    words: list[str] = []
    for name, flag in {**_VALUES, **_FILES}.items():
        value = getattr(request, name)
        if value is not None:
            words += [flag, str(Path(value).absolute()) if name in _FILES else str(value)]
    words += [flag for name, flag in _FLAGS.items() if getattr(request, name)]
    for name, flag in _LISTS.items():
        if values := getattr(request, name):
            words += [flag, *values]
    for name, flag in _PAIRS.items():
        pairs: Mapping[str, Any] | None = getattr(request, name)
        if pairs:
            words += [flag, *(f"{key}={value}" for key, value in pairs.items())]
    return tuple(words)


def where_words(options: Options, on_device: bool, cpus: int, num_gpus: int = 1) -> tuple[str, ...]:
    """Return the options that say where and how a job runs; what is the default is left out."""
    words = ["-device", options.device if on_device else "cpu", "-np", str(cpus)]
    if num_gpus > 1:
        words += ["-num_gpus", str(num_gpus)]
    default = Options()
    if options.scoring_batch_size != default.scoring_batch_size:
        words += ["-scoring_batch_size", str(options.scoring_batch_size)]
    if options.keep != default.keep:
        words += ["-keep", options.keep]
    return (*words, "--verbose") if options.verbose else tuple(words)


def _recipe(request: Request) -> dict[str, Any] | None:
    try:
        return request.decide().recipe.to_json()
    except StrategyError:
        return None
