"""From what is known about the pool to the batch: the one place that joins recipes and selectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nnunet_al.errors import StrategyError
from nnunet_al.selection.class_balanced import class_balanced
from nnunet_al.selection.flqmi import flqmi_gain_order
from nnunet_al.selection.flqmi_submodlib import submodlib_sentence
from nnunet_al.selection.k_center import k_center
from nnunet_al.selection.kernel import SimilarityKernel
from nnunet_al.selection.kernel_blocks import KernelBlocks
from nnunet_al.selection.kernel_plan import plan_kernel
from nnunet_al.selection.kmeans_plusplus import kmeans_plusplus
from nnunet_al.selection.kmeans_uncertain import kmeans_uncertain
from nnunet_al.selection.query import QuerySet, draw_query
from nnunet_al.selection.query_sampling import query_sampling
from nnunet_al.selection.random_draw import random_draw, random_foreground
from nnunet_al.selection.ranking_noise import Keys, power_noise, scheduled_beta, softrank_noise, unchanged
from nnunet_al.selection.resources import Resources
from nnunet_al.selection.selection import Selection, order_by_name
from nnunet_al.selection.selective import selective_union
from nnunet_al.selection.stochastic_batches import stochastic_batches
from nnunet_al.selection.top_k import top_k
from nnunet_al.strategies import own
from nnunet_al.strategies.candidates import FIRST_ROUND, Candidates, Generators, Moment
from nnunet_al.strategies.recipe import Recipe

__all__ = ["Candidates", "Generators", "Moment", "draw_query_for", "select_batch"]


@dataclass(frozen=True)
class _Call:
    """What every selector is called with."""

    recipe: Recipe
    candidates: Candidates
    budget: int
    rngs: Generators
    engine: str
    keys: Keys
    resources: Resources

    def known(self, field: str) -> Any:
        value = getattr(self.candidates, field)
        assert value is not None, f"{self.recipe.name} needs {field}"
        assert len(value) == len(self.candidates.names_N), (
            f"{len(value)} {field} for {len(self.candidates.names_N)} regions"
        )
        return value

    @property
    def scores_N(self) -> np.ndarray:
        scores_N: np.ndarray = self.known("scores_N")
        return scores_N

    @property
    def names_N(self) -> Sequence[str]:
        return self.candidates.names_N

    @property
    def rng(self) -> np.random.Generator:
        return self.rngs("select")


def draw_query_for(recipe: Recipe, candidates: Candidates, budget: int, rngs: Generators) -> QuerySet:
    """Draw the query set of a recipe whose selector or embedding works on one, from the candidates' scores.

    It stands apart from ``select_batch``, because the Fisher information is averaged over the query set before there
    are embeddings. Same generators, same set.

    Raises
    ------
    StrategyError
        if a score is negative.
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
        names the selector, the noise of its ranking, and their parameters.
    candidates : Candidates
        the pool. Selectors see it sorted by names, so that its order changes nothing.
    budget : int
        number of regions asked for.
    rngs : callable
        from a purpose (``"query"``, ``"noise"``, ``"select"``) to its generator.
    engine : {"streaming", "submodlib"}
        of FLQMI; other selectors have none.
    moment : Moment
        where schedules stand.
    resources : Resources
        device and memory that FLQMI may use; other selectors have no need of them.

    Returns
    -------
    Selection
        indices into ``candidates``.

    Raises
    ------
    StrategyError
        if a score is negative and the recipe draws in proportion to it, or a selector of another package returns
        something else than it promised.
    NotEnoughMemoryError
        if FLQMI does not fit into memory.
    """
    selector = _SELECTORS.get(recipe.selector)
    if selector is None:
        return _own(recipe, candidates, budget, rngs)
    keys = _keys(recipe, candidates, rngs, moment)
    return selector(_Call(recipe, candidates, budget, rngs, engine, keys, resources))


def _keys(recipe: Recipe, candidates: Candidates, rngs: Generators, moment: Moment) -> Keys:
    if recipe.noise is None:
        return unchanged
    if recipe.noise == "softrank":
        return softrank_noise(candidates.names_N, rngs("noise"))
    fields = (candidates.scores_N, candidates.target_scores_N, candidates.boundary_scores_N)
    for scores_N in fields:
        if scores_N is not None:
            _refuse_negative(recipe, scores_N, "power noise")
    beta, beta_end = recipe.parameters["beta"], recipe.parameters["beta_end"]
    beta = scheduled_beta(beta, beta_end, max(moment.round - 1, 0), max(moment.planned, 1))
    return power_noise(candidates.names_N, rngs("noise"), beta)


def _refuse_negative(recipe: Recipe, scores_N: np.ndarray, what: str) -> None:
    if len(scores_N) and np.min(scores_N) < 0:
        raise StrategyError(
            f"The strategy '{recipe.name}' draws regions in proportion to their scores, and its metric "
            f"'{recipe.metric}' gave a negative one: {what} needs a metric that is never negative."
        )


def _top_k(call: _Call) -> Selection:
    return top_k(call.scores_N, call.names_N, call.budget, call.keys)


def _stochastic_batches(call: _Call) -> Selection:
    batches = call.recipe.parameters["num_batches"]
    return stochastic_batches(call.scores_N, call.names_N, call.budget, call.rng, batches)


def _selective(call: _Call) -> Selection:
    target_N, boundary_N = call.known("target_scores_N"), call.known("boundary_scores_N")
    return selective_union(target_N, boundary_N, call.names_N, call.budget, call.keys)


def _class_balanced(call: _Call) -> Selection:
    class_scores_N_C, share = call.known("class_scores_N_C"), call.recipe.parameters["class_share"]
    return class_balanced(call.scores_N, class_scores_N_C, call.names_N, call.budget, call.rng, share, call.keys)


def _core_set(call: _Call) -> Selection:
    return k_center(call.known("embeddings_N_d"), call.names_N, call.budget, call.candidates.references_M_d)


def _badge(call: _Call) -> Selection:
    return kmeans_plusplus(call.known("embeddings_N_d"), call.names_N, call.budget, call.rng, first="largest_norm")


def _kmeans(call: _Call) -> Selection:
    embeddings_N_d, cases_N = call.known("embeddings_N_d"), call.known("cases_N")
    per_case = call.recipe.parameters["per_case"]
    return kmeans_uncertain(call.scores_N, embeddings_N_d, cases_N, call.names_N, call.budget, call.rng, per_case)


def _query_sampling(call: _Call) -> Selection:
    return query_sampling(_query(call), call.scores_N, call.names_N, call.budget, call.rng)


def _random(call: _Call) -> Selection:
    return random_draw(call.names_N, call.budget, call.rng)


def _random_foreground(call: _Call) -> Selection:
    foreground_N, share = call.known("foreground_voxels_N"), call.recipe.parameters["share"]
    return random_foreground(foreground_N, call.names_N, call.budget, call.rng, share)


def _flqmi(call: _Call) -> Selection:
    embeddings_N_d, query = call.known("embeddings_N_d"), _query(call)
    # rows by name, because ties go to a row and candidates are drawn among rows; columns, because sums round
    order_N = order_by_name(call.names_N)
    columns_Q = np.argsort(np.argsort(order_N)[query.indices_Q])
    cosine = call.recipe.embedding == "bottleneck_gradient"
    resources = call.resources
    plan = plan_kernel(len(order_N), len(query), embeddings_N_d.shape[1], resources.memory)
    resources.announce(submodlib_sentence(len(order_N), query.draws) if call.engine == "submodlib" else plan.sentence)
    blocks = KernelBlocks(embeddings_N_d, order_N, query.indices_Q[columns_Q], cosine, resources.device)
    parameters = call.recipe.parameters
    chosen = flqmi_gain_order(
        SimilarityKernel(blocks, plan.kept_rows),
        query.multiplicities_Q[columns_Q],
        call.budget,
        call.rng,
        eta=parameters["eta"],
        epsilon=parameters["epsilon"],
        greedy=parameters["greedy"],
        engine=call.engine,
        memory=resources.memory,
    )
    return Selection(order_N[chosen.indices_B], chosen.gains_B)


def _query(call: _Call) -> QuerySet:
    if call.candidates.query is not None:
        return call.candidates.query
    return draw_query_for(call.recipe, call.candidates, call.budget, call.rngs)


def _own(recipe: Recipe, candidates: Candidates, budget: int, rngs: Generators) -> Selection:
    function = own.select_function(recipe.selector)
    assert function is not None, recipe.selector
    if recipe.needs.query and candidates.query is None:
        candidates = replace(candidates, query=draw_query_for(recipe, candidates, budget, rngs))
    count = len(candidates.names_N)
    wanted = min(max(budget, 0), count)
    broken = (
        f"The selector '{recipe.selector}' of another package did not return a Selection of {wanted} of the {count} "
        "regions"
    )
    try:
        selection = function(recipe, candidates, budget, rngs)
        if isinstance(selection, Selection):
            selection = Selection(selection.indices_B, selection.gains_B)  # arrays may have been changed since
    except AssertionError as error:  # a Selection checks itself
        reason = " ".join(str(error).split())
        raise StrategyError(f"{broken}{f' ({reason})' if reason else ''}: correct it there.") from error
    indices_B = selection.indices_B if isinstance(selection, Selection) else None
    if indices_B is None or len(indices_B) != wanted or ((indices_B < 0) | (indices_B >= count)).any():
        raise StrategyError(f"{broken}: correct it there.")
    return selection


_SELECTORS: dict[str, Callable[[_Call], Selection]] = {
    "top_k": _top_k,
    "stochastic_batches": _stochastic_batches,
    "selective": _selective,
    "class_balanced": _class_balanced,
    "core_set": _core_set,
    "badge": _badge,
    "kmeans": _kmeans,
    "flqmi": _flqmi,
    "query_sampling": _query_sampling,
    "random": _random,
    "random_foreground": _random_foreground,
}
