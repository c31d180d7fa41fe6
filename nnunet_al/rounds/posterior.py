"""Where a round's probabilities come from: its network, its sub-networks, transformed images, or several models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunet_al.errors import ModelError
from nnunet_al.nnunet.checkpoints import load_loss_module
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round_model import load_round_model
from nnunet_al.scoring import samplers
from nnunet_al.scoring.augmentation import AugmentationSampler
from nnunet_al.scoring.dropout import insert_dropout
from nnunet_al.scoring.fast_network import fast_network
from nnunet_al.scoring.learning_loss import LossSampler
from nnunet_al.scoring.samplers import DropoutSampler, Sampler
from nnunet_al.terminal import say

_PASSES_OF_ONE_MODEL = 10


def make_sampler(context: RoundContext, plan: Any, network: Any, device: Any) -> Sampler:
    """Return the sampler of the recipe's posterior, with ``network`` as the round's own model.

    Raises ModelError if a checkpoint, or a part of it that the strategy needs, is missing.
    """
    recipe, exclusive, precision = context.decided.recipe, plan.exclusive, context.decided.precision
    network = fast_network(network, precision)
    if recipe.trainer is not None:
        module = load_loss_module(context.checkpoint(context.round), network).to(device)
        return LossSampler(network, module, exclusive)
    if recipe.posterior == "mc_dropout":
        return _dropout_sampler(context, network, exclusive, recipe.passes)
    if recipe.posterior == "tta":
        rng, spacing = context.rng("test-time augmentation"), plan.configuration.spacing
        noise_variance, max_angle = recipe.parameters["noise_variance"], recipe.parameters["max_angle"]
        plain = recipe.parameters["plain_image"] == "first"
        return AugmentationSampler(network, exclusive, recipe.passes, rng, spacing, noise_variance, max_angle, plain)
    if recipe.posterior == "ensemble":
        members = ensemble_checkpoints(context)
        if len(members) > 1:
            networks = [fast_network(load_round_model(context, checkpoint)[1], precision) for checkpoint in members]
            return samplers.EnsembleSampler(networks, exclusive)
        say(f"    there is one model so far: {_PASSES_OF_ONE_MODEL} dropout passes stand in for the ensemble")
        return _dropout_sampler(context, network, exclusive, _PASSES_OF_ONE_MODEL)
    return samplers.DeterministicSampler(network, exclusive)


def ensemble_checkpoints(context: RoundContext) -> list[Path]:
    """Return the checkpoints of the ensemble: the members of this round, or the models of the last rounds.

    Raises ModelError if one of them is missing.
    """
    parameters = context.decided.recipe.parameters
    members = parameters["members"]
    if parameters["ensemble_of"] == "folds":
        checkpoints = [context.checkpoint(context.round, fold) for fold in context.member_folds]
    else:
        first = max(1, context.number - members + 1)
        checkpoints = [context.checkpoint(context.folder.round(k)) for k in range(first, context.number + 1)]
    for checkpoint in checkpoints:
        if not checkpoint.is_file():
            raise ModelError(
                f"The ensemble's checkpoint {checkpoint} is missing: restore it, or start another campaign whose "
                "posterior is not an ensemble."
            )
    return checkpoints


def _dropout_sampler(context: RoundContext, network: Any, exclusive: bool, passes: int) -> Sampler:
    decided = context.decided
    insert_dropout(network, decided.dropout_p, decided.dropout, decided.dropout_of)
    return DropoutSampler(network, exclusive, passes, context.rng("dropout"))
