"""The command lines of jobs: a campaign's options as the words of a command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_al.campaign.decisions import Options
from nnunet_al.campaign.planned import Planned
from nnunet_al.campaign.request import Request
from nnunet_al.errors import StrategyError
from nnunet_al.settings import SETTINGS, epochs, words

ROUND_COMMAND, PREPARE_COMMAND = "nnUNetv2_al_round", "nnUNetv2_al_prepare"


def campaign_words(campaign: Planned, dataset: str, strategy: str | None = None) -> tuple[str, ...]:
    """Return the options that name a campaign, with ``dataset`` and ``strategy`` written as given."""
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
    """Return the options that are decided when a campaign starts, without those that the user left open."""
    parameters = [f"{name}={value}" for name, value in request.parameters.items()]
    return (
        *words(SETTINGS, request, int, float, str, epochs),
        *(("-groups", str(Path(request.groups).absolute())) if request.groups else ()),
        *words(SETTINGS, request, Path),
        *words(SETTINGS, request, bool),
        *words(SETTINGS, request, tuple),
        *(("-set", *parameters) if parameters else ()),
        *words(SETTINGS, request, dict),
    )


def where_words(options: Options, on_device: bool, cpus: int, num_gpus: int = 1) -> tuple[str, ...]:
    """Return the options on where and how a job runs, without defaults."""
    said = ["-device", options.device if on_device else "cpu", "-np", str(cpus)]
    if num_gpus > 1:
        said += ["-num_gpus", str(num_gpus)]
    default = Options()
    if options.scoring_batch_size != default.scoring_batch_size:
        said += ["-scoring_batch_size", str(options.scoring_batch_size)]
    if options.keep_predictions:
        said += ["-keep_predictions", str(options.keep_predictions)]
    if options.keep != default.keep:
        said += ["-keep", options.keep]
    if options.share_first:
        said += ["--share_first"]
    return (*said, "--verbose") if options.verbose else tuple(said)


def _recipe(request: Request) -> dict[str, Any] | None:
    try:
        return request.decide().recipe.to_json()
    except StrategyError:
        return None
