"""Stage `select` of a round with a model: the batch."""

from __future__ import annotations

import numpy as np

from nnunet_al.memory import available_bytes
from nnunet_al.rounds.batch import write_batch
from nnunet_al.rounds.candidates import candidate_numbers, read_scores, with_embeddings
from nnunet_al.rounds.context import RoundContext
from nnunet_al.selection.resources import Resources
from nnunet_al.strategies.select import Candidates, Moment, select_batch
from nnunet_al.terminal import say
from nnunet_al.text import count


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
    if len(numbers_N) <= budget:
        say(
            f"    the pool is used up after this batch: {count(len(numbers_N), 'region')} left for a budget of {budget}"
            if len(numbers_N)
            else "    the pool is used up: nothing is left to ask for"
        )
    moment = Moment(context.number, decided.rounds)
    resources = Resources(context.options.device, available_bytes(), lambda sentence: say(f"    {sentence}"))
    chosen = select_batch(recipe, candidates, budget, context.rng, decided.engine or "streaming", moment, resources)
    ranked = not recipe.selector.startswith("random")
    write_batch(context, numbers_N[chosen.indices_B], chosen.gains_B.tolist() if ranked else [None] * len(chosen))
