"""From what is known about the pool to the batch: the one place that joins recipes and selectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_al.selection.flqmi import flqmi_gain_order
from nnunet_al.selection.kernel import similarity_kernel
from nnunet_al.selection.query import QuerySet, draw_query
from nnunet_al.selection.random_draw import random_draw, random_foreground
from nnunet_al.selection.selection import Selection, order_by_name, rank_by_name
from nnunet_al.selection.top_k import top_k
from nnunet_al.strategies.recipe import Recipe

# a generator for each purpose, for example functools.partial(seeding.generator, seed, round_number)
Generators = Callable[[str], np.random.Generator]


@dataclass(frozen=True, eq=False)
class Candidates:
    """The regions that may be chosen, in any order, with what the recipe's phases have found out about them.

    Attributes
    ----------
    names_N : sequence of str
        unique names.
    scores_N : float array (N,), optional
        finite; larger is more informative.
    foreground_voxels_N : array (N,), optional
        predicted foreground voxels.
    embeddings_N_d : float array (N, d), optional
        gradient embeddings; for the Fisher kernel already scaled by (F + λ)^-1/2. May be mapped from disk.
    query : QuerySet, optional
        as ``draw_query_for`` returned it for the same regions in the same order; drawn anew where it is missing.
    """

    names_N: Sequence[str]
    scores_N: np.ndarray | None = None
    foreground_voxels_N: np.ndarray | None = None
    embeddings_N_d: np.ndarray | None = None
    query: QuerySet | None = None


def draw_query_for(recipe: Recipe, candidates: Candidates, budget: int, rngs: Generators) -> QuerySet:
    """Draw the query set of a recipe whose selector is ``flqmi``, from the candidates' scores.

    It stands apart from ``select_batch``, because the Fisher information is averaged over the query set before there
    are embeddings. Same generators, same set.
    """
    assert candidates.scores_N is not None, f"{recipe.name} needs scores"
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
    recipe: Recipe, candidates: Candidates, budget: int, rngs: Generators, engine: str = "streaming"
) -> Selection:
    """Select min(``budget``, N) regions by the recipe's selector.

    Parameters
    ----------
    recipe : Recipe
        names the selector and its parameters.
    candidates : Candidates
        the pool. Selectors see it sorted by names, so that its order changes nothing.
    budget : int
        number of regions asked for.
    rngs : callable
        from a purpose (``"query"``, ``"select"``) to its generator.
    engine : {"streaming", "submodlib"}
        of FLQMI; other selectors have none.

    Returns
    -------
    Selection
        indices into ``candidates``.
    """
    return _SELECTORS[recipe.selector](recipe, candidates, budget, rngs, engine)


def _top_k(recipe: Recipe, candidates: Candidates, budget: int, _rngs: Generators, _engine: str) -> Selection:
    assert candidates.scores_N is not None, f"{recipe.name} needs scores"
    return top_k(candidates.scores_N, candidates.names_N, budget)


def _random(_recipe: Recipe, candidates: Candidates, budget: int, rngs: Generators, _engine: str) -> Selection:
    return random_draw(candidates.names_N, budget, rngs("select"))


def _random_foreground(
    recipe: Recipe, candidates: Candidates, budget: int, rngs: Generators, _engine: str
) -> Selection:
    assert candidates.foreground_voxels_N is not None, f"{recipe.name} needs the predicted foreground"
    share = recipe.parameters["share"]
    return random_foreground(candidates.foreground_voxels_N, candidates.names_N, budget, rngs("select"), share)


def _flqmi(recipe: Recipe, candidates: Candidates, budget: int, rngs: Generators, engine: str) -> Selection:
    assert candidates.embeddings_N_d is not None, f"{recipe.name} needs embeddings"
    assert len(candidates.embeddings_N_d) == len(candidates.names_N)
    query = candidates.query
    if query is None:
        query = draw_query_for(recipe, candidates, budget, rngs)
    # rows by name, because ties go to a row and candidates are drawn among rows; columns, because sums round
    order_N = order_by_name(candidates.names_N)
    columns_Q = np.argsort(rank_by_name(candidates.names_N)[query.indices_Q])
    cosine = recipe.embedding == "bottleneck_gradient"
    kernel_N_Q = similarity_kernel(candidates.embeddings_N_d, order_N, query.indices_Q[columns_Q], cosine)
    chosen = flqmi_gain_order(
        kernel_N_Q,
        query.multiplicities_Q[columns_Q],
        budget,
        rngs("select"),
        eta=recipe.parameters["eta"],
        epsilon=recipe.parameters["epsilon"],
        greedy=recipe.parameters["greedy"],
        engine=engine,
    )
    return Selection(order_N[chosen.indices_B], chosen.gains_B)


_SELECTORS: dict[str, Callable[[Recipe, Candidates, int, Generators, str], Selection]] = {
    "top_k": _top_k,
    "random": _random,
    "random_foreground": _random_foreground,
    "flqmi": _flqmi,
}
