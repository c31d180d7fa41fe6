"""Select the batch by the selector of a recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nnunet_al.errors import StrategyError
from nnunet_al.selection.query import QuerySet, draw_query
from nnunet_al.selection.ranking_noise import Keys, power_noise, scheduled_beta, softrank_noise, unchanged
from nnunet_al.selection.resources import Resources
from nnunet_al.selection.selection import Selection
from nnunet_al.strategies import registry
from nnunet_al.strategies.candidates import FIRST_ROUND, Candidates, Generators, Moment
from nnunet_al.strategies.ingredients import EMBEDDINGS
from nnunet_al.strategies.kinds import Selector, loaded
from nnunet_al.strategies.recipe import Recipe

__all__ = ["Candidates", "Generators", "Moment", "draw_query_for", "select_batch"]


def draw_query_for(recipe: Recipe, candidates: Candidates, budget: int, rngs: Generators) -> QuerySet:
    """Draw the query set of a recipe whose selector or embedding needs one, from the candidates' scores.

    This is separate from ``select_batch``, because the Fisher information is averaged over the query set before there
    are embeddings. Equal generators draw equal sets.

    Raises StrategyError if a score is negative.
    """
    assert candidates.scores_N is not None, f"{recipe.name} needs scores_N"
    _refuse_negative(recipe, candidates.scores_N, "a query set")
    parameters = recipe.parameters
    return draw_query(
        candidates.scores_N,
        candidates.names_N,
        budget,
        rngs("query"),
        size=parameters["query_size"],
        mode=parameters["query_mode"],
    )


def select_batch(
    recipe: Recipe,
    candidates: Candidates,
    budget: int,
    rngs: Generators,
    engine: str = "streaming",
    moment: Moment = FIRST_ROUND,
    resources: Resources = Resources(),  # noqa: B008 -- frozen
) -> Selection:
    """Select min(``budget``, N) regions by the recipe's selector.

    Parameters
    ----------
    recipe : Recipe
        the selector, the noise of its ranking, and their parameters.
    candidates : Candidates
        the pool. Selectors get it sorted by names, so its order has no effect.
    budget : int
        number of regions to select.
    rngs : callable
        from a purpose (``"query"``, ``"noise"``, ``"select"``) to its generator.
    engine : {"streaming", "submodlib"}
        of FLQMI; other selectors have none.
    moment : Moment
        step of schedules.
    resources : Resources
        device and memory that FLQMI may use; other selectors need none.

    Returns
    -------
    Selection
        indices into ``candidates``.

    Raises StrategyError if a score is negative and the recipe draws in proportion to it, or a selector of another
    package returns no valid selection; NotEnoughMemoryError if FLQMI does not fit into memory.
    """
    selector = registry.selector(recipe.selector)
    assert selector is not None, recipe.selector
    if selector.needs.query and candidates.query is None:
        candidates = replace(candidates, query=draw_query_for(recipe, candidates, budget, rngs))
    offered = {
        **{name: recipe.parameters[name] for name in selector.parameters},
        **{name: getattr(candidates, name) for name in selector.needs.fields},
        "budget": budget,
        "rng": rngs("select"),
        "keys": _keys(recipe, candidates, rngs, moment),
        "cosine": recipe.embedding is not None and EMBEDDINGS[recipe.embedding].cosine,
        "engine": engine,
        "resources": resources,
    }
    arguments = {name: offered[name] for name in selector.arguments()}
    count = len(candidates.names_N)
    may_be_absent = {"references_M_d", "taken_M_2"}  # nothing may be annotated yet
    for name in set(arguments) & set(selector.needs.fields) - may_be_absent:
        assert arguments[name] is not None, f"{recipe.name} needs {name}"
        assert name == "query" or len(arguments[name]) == count, f"{len(arguments[name])} {name} for {count} regions"
    if registry.is_built_in(recipe.selector):
        batch: Selection = loaded(selector.function)(**arguments)
        return batch
    return _of_package(recipe.selector, selector, arguments, min(max(budget, 0), count), count)


def _keys(recipe: Recipe, candidates: Candidates, rngs: Generators, moment: Moment) -> Keys:
    if recipe.noise is None:
        return unchanged
    if recipe.noise == "softrank":
        return softrank_noise(candidates.names_N, rngs("noise"))
    fields = (candidates.scores_N, candidates.target_scores_N, candidates.boundary_scores_N, candidates.mean_scores_N)
    for scores_N in fields:
        if scores_N is not None:
            _refuse_negative(recipe, scores_N, "power noise")
    beta, beta_end = recipe.parameters["beta"], recipe.parameters["beta_end"]
    beta = scheduled_beta(beta, beta_end, max(moment.round - 1, 0), max(moment.planned, 1))
    return power_noise(candidates.names_N, rngs("noise"), beta)


def _refuse_negative(recipe: Recipe, scores_N: np.ndarray, drawing: str) -> None:
    if (np.asarray(scores_N) < 0).any():
        raise StrategyError(
            f"The strategy '{recipe.name}' draws regions in proportion to their scores, and its metric "
            f"'{recipe.metric}' gave a negative one: {drawing} needs a metric that is never negative."
        )


def _of_package(name: str, selector: Selector, arguments: dict[str, Any], wanted: int, count: int) -> Selection:
    """Call a selector of another package and check its result."""
    broken = f"The selector '{name}' of another package did not return a Selection of {wanted} of the {count} regions"
    try:
        selection = loaded(selector.function)(**arguments)
        if isinstance(selection, Selection):
            selection = Selection(selection.indices_B, selection.gains_B)  # arrays may have been changed since
    except AssertionError as error:  # a Selection checks itself
        reason = " ".join(str(error).split())
        raise StrategyError(f"{broken}{f' ({reason})' if reason else ''}: correct it there.") from error
    indices_B = selection.indices_B if isinstance(selection, Selection) else None
    if indices_B is None or len(indices_B) != wanted or ((indices_B < 0) | (indices_B >= count)).any():
        raise StrategyError(f"{broken}: correct it there.")
    return selection
