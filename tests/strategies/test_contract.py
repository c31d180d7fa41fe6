"""What every strategy of the catalog promises, whatever it is made of."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from nnunet_al.seeding import generator
from nnunet_al.selection.flqmi_submodlib import submodlib_available
from nnunet_al.strategies.catalog import CATALOG
from nnunet_al.strategies.recipe import SELECTORS
from nnunet_al.strategies.select import _SELECTORS, Candidates, draw_query_for, select_batch

needs_submodlib = pytest.mark.skipif(not submodlib_available(), reason="submodlib has no wheel for this interpreter")
CASES = [pytest.param(name, "streaming", id=name) for name in CATALOG] + [
    pytest.param(name, "submodlib", id=f"{name}-submodlib", marks=needs_submodlib)
    for name, recipe in CATALOG.items()
    if recipe.selector == "flqmi"
]
RNGS = partial(generator, 7, 2)
every_strategy = pytest.mark.parametrize("name, engine", CASES)


def pool(count: int, seed: int = 0) -> Candidates:
    rng = np.random.default_rng(seed)
    return Candidates(
        names_N=[f"case_{index // 5:02d}[{index % 5}:{index % 5 + 1}]" for index in rng.permutation(count)],
        scores_N=rng.gamma(0.5, size=count),
        foreground_voxels_N=rng.integers(0, 3, size=count),
        embeddings_N_d=rng.normal(size=(count, 12)).astype(np.float32),
    )


def shuffled(candidates: Candidates, seed: int = 1) -> Candidates:
    order = np.random.default_rng(seed).permutation(len(candidates.names_N))
    return Candidates(
        names_N=[candidates.names_N[index] for index in order],
        scores_N=candidates.scores_N[order],
        foreground_voxels_N=candidates.foreground_voxels_N[order],
        embeddings_N_d=candidates.embeddings_N_d[order],
    )


def degenerate(kind: str, count: int = 30) -> Candidates:
    candidates = pool(count)
    changes = {
        "constant scores": {"scores_N": np.full(count, 0.25)},
        "zero scores": {"scores_N": np.zeros(count)},
        "equal embeddings": {"embeddings_N_d": np.ones((count, 12), dtype=np.float32)},
        "zero embeddings": {"embeddings_N_d": np.zeros((count, 12), dtype=np.float32)},
        "no foreground": {"foreground_voxels_N": np.zeros(count, dtype=int)},
        "foreground everywhere": {"foreground_voxels_N": np.ones(count, dtype=int)},
    }
    return replace(candidates, **changes[kind])


def batch(name: str, candidates: Candidates, budget: int, engine: str, rngs=RNGS) -> list[str]:
    selection = select_batch(CATALOG[name], candidates, budget, rngs, engine)
    count = len(candidates.names_N)
    assert len(selection) == min(budget, count)
    assert len(set(selection.indices_B.tolist())) == len(selection)
    assert ((selection.indices_B >= 0) & (selection.indices_B < count)).all()
    assert selection.indices_B.dtype == np.int64
    assert selection.gains_B.dtype == np.float64
    assert np.isfinite(selection.gains_B).all()
    return [candidates.names_N[index] for index in selection.indices_B]


@every_strategy
@pytest.mark.parametrize(
    "count, budget", [(60, 7), (60, 0), (60, 60), (60, 99), (1, 1), (1, 3), (2, 1), (0, 4), (0, 0)]
)
def test_the_batch_is_min_of_budget_and_pool_and_unique(name, engine, count, budget):
    batch(name, pool(count), budget, engine)


@every_strategy
def test_same_seed_same_batch(name, engine):
    first = batch(name, pool(60), 9, engine)
    assert first == batch(name, pool(60), 9, engine)


@every_strategy
@pytest.mark.parametrize("count, budget", [(60, 9), (600, 40), (12, 12)])
def test_the_order_of_the_pool_changes_nothing(name, engine, count, budget):
    first = batch(name, pool(count), budget, engine)
    for seed in range(3):
        assert first == batch(name, shuffled(pool(count), seed), budget, engine)


@every_strategy
@pytest.mark.parametrize(
    "kind",
    ["constant scores", "zero scores", "equal embeddings", "zero embeddings", "no foreground", "foreground everywhere"],
)
def test_degenerate_pools(name, engine, kind):
    first = batch(name, degenerate(kind), 6, engine)
    assert first == batch(name, shuffled(degenerate(kind)), 6, engine)


@every_strategy
def test_inputs_are_not_changed(name, engine):
    candidates, untouched = pool(60), pool(60)
    for array in (candidates.scores_N, candidates.foreground_voxels_N, candidates.embeddings_N_d):
        array.setflags(write=False)
    batch(name, candidates, 9, engine)
    assert candidates.names_N == untouched.names_N
    for field in ("scores_N", "foreground_voxels_N", "embeddings_N_d"):
        np.testing.assert_array_equal(getattr(candidates, field), getattr(untouched, field))


@every_strategy
def test_another_seed_or_round_matters_only_where_there_is_chance(name, engine):
    candidates = pool(300)
    batches = {tuple(sorted(batch(name, candidates, 20, engine, partial(generator, seed, 2)))) for seed in range(4)}
    assert (len(batches) == 1) == (CATALOG[name].selector == "top_k")


@pytest.mark.parametrize("name", [name for name, recipe in CATALOG.items() if recipe.selector == "flqmi"])
def test_a_query_set_drawn_beforehand_gives_the_same_batch(name):
    candidates = pool(60)
    query = draw_query_for(CATALOG[name], candidates, 5, RNGS)
    assert batch(name, replace(candidates, query=query), 5, "streaming") == batch(name, candidates, 5, "streaming")


@pytest.mark.parametrize("name", [name for name, recipe in CATALOG.items() if recipe.selector == "flqmi"])
def test_scaling_all_scores_changes_no_draw(name):
    candidates = pool(60)
    scaled = replace(candidates, scores_N=candidates.scores_N * 1024)
    assert batch(name, scaled, 5, "streaming") == batch(name, candidates, 5, "streaming")


def test_cosine_ignores_the_length_of_gradients_and_the_fisher_kernel_does_not():
    candidates = pool(60)
    lengths = np.random.default_rng(3).uniform(0.1, 10, size=(60, 1)).astype(np.float32)
    longer = replace(candidates, embeddings_N_d=candidates.embeddings_N_d * lengths)
    assert batch("usimc", longer, 8, "streaming") == batch("usimc", candidates, 8, "streaming")
    assert batch("usimf", longer, 8, "streaming") != batch("usimf", candidates, 8, "streaming")


def test_a_budget_changes_no_other_purpose():
    # draws are named by purpose: the query set does not depend on how much the selector drew before
    candidates = pool(60)
    first = draw_query_for(CATALOG["usimf"], candidates, 5, RNGS)
    batch("usimf", candidates, 5, "streaming")
    second = draw_query_for(CATALOG["usimf"], candidates, 5, RNGS)
    np.testing.assert_array_equal(first.indices_Q, second.indices_Q)
    np.testing.assert_array_equal(first.multiplicities_Q, second.multiplicities_Q)


def test_every_selector_is_there():
    assert set(_SELECTORS) == set(SELECTORS)


@pytest.mark.parametrize("name", [name for name, recipe in CATALOG.items() if recipe.selector != "random"])
def test_missing_knowledge_is_our_mistake(name):
    with pytest.raises(AssertionError, match="needs"):
        select_batch(CATALOG[name], Candidates(names_N=["a", "b"]), 1, RNGS)
