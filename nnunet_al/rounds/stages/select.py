"""Stage `select` of a round with a model: the batch."""

from __future__ import annotations

import numpy as np

from nnunet_al.memory import available_bytes
from nnunet_al.rounds.batch import write_batch
from nnunet_al.rounds.candidates import candidate_numbers, read_scores, with_embeddings, with_places
from nnunet_al.rounds.context import RoundContext
from nnunet_al.selection.resources import Resources
from nnunet_al.strategies.select import Candidates, Moment, select_batch
from nnunet_al.terminal import say
from nnunet_al.text import count

_WITHOUT_RANKS = ("random", "random_foreground", "evenly_spaced")


def select(context: RoundContext) -> None:
    """Choose the batch.

    Raises NotEnoughMemoryError if the selector does not fit into memory.
    """
    decided = context.decided
    recipe, budget = decided.recipe, decided.budget
    if recipe.phases():
        candidates, numbers_N = read_scores(context)
        if recipe.embedding is not None:
            candidates = with_embeddings(context, candidates)
    else:
        numbers_N = np.array(candidate_numbers(context), np.int64)
        regions = [context.regions[number] for number in numbers_N]
        candidates = Candidates([region.name for region in regions], cases_N=[region.case for region in regions])
    if recipe.needs.places:
        candidates = with_places(context, candidates, numbers_N)
    if len(numbers_N) <= budget:
        say(
            f"    the pool is used up after this batch: {count(len(numbers_N), 'region')} left for a budget of {budget}"
            if len(numbers_N)
            else "    the pool is used up: nothing is left to ask for"
        )
    elif recipe.selector == "stochastic_batches":
        batches = recipe.parameters["num_batches"] or len(numbers_N) // budget
        if batches == 1:
            say("    there is one random batch to choose from, so this is a uniform draw")
    if recipe.needs.pair and recipe.parameters["empty_sets"] == "skip":
        _say_empty(candidates)
    moment = Moment(context.number, decided.rounds)
    resources = Resources(context.options.device, available_bytes(), lambda sentence: say(f"    {sentence}"))
    chosen = select_batch(recipe, candidates, budget, context.rng, decided.engine or "streaming", moment, resources)
    ranked = recipe.selector not in _WITHOUT_RANKS
    if ranked and len(chosen) < len(numbers_N):
        _say_ties(chosen.gains_B)
    write_batch(context, numbers_N[chosen.indices_B], chosen.gains_B.tolist() if ranked else [None] * len(chosen))


def _say_ties(gains_B: np.ndarray) -> None:
    """Say when more than half of a batch was decided by the order of ties."""
    values, counts = np.unique(gains_B, return_counts=True)
    if len(gains_B) > 1 and counts.max() > len(gains_B) / 2:
        same, value = int(counts.max()), values[counts.argmax()]
        say(f"    {same} of {len(gains_B)} regions have the same score ({value:.3g}); the seed decided among equals")


def _say_empty(candidates: Candidates) -> None:
    """Say how many regions have no voxel in the target or at the boundary; warn where that is most of the pool."""
    for scores_N, place, parameter, quantile in (
        (candidates.target_scores_N, "a likely foreground", "target_threshold", 0.9),
        (candidates.boundary_scores_N, "a predicted boundary", "boundary_width", 0.1),
    ):
        assert scores_N is not None
        there = int(np.count_nonzero(~np.isnan(scores_N)))
        advice = (
            ""
            if 2 * there >= len(scores_N)
            else f"; the others do not compete: -set {parameter} changes it, q{quantile} takes a quantile of the pool"
        )
        say(f"    {there} of {len(scores_N)} regions have {place}{advice}")
