"""What every strategy promises, whatever it is made of: those of the catalog and every sensible combination."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from strategy_combinations import combinations, spellings

from nnunet_al.errors import StrategyError
from nnunet_al.seeding import generator
from nnunet_al.selection.flqmi_submodlib import submodlib_available
from nnunet_al.strategies.candidates import FIRST_ROUND, Candidates, Moment
from nnunet_al.strategies.catalog import CATALOG, get, with_parameters
from nnunet_al.strategies.kinds import loaded
from nnunet_al.strategies.metrics import METRICS
from nnunet_al.strategies.recipe import Recipe
from nnunet_al.strategies.select import draw_query_for, select_batch
from nnunet_al.strategies.selectors import SELECTORS

from .pools import ARRAYS, DEGENERATE, degenerate, pool, read_only, shuffled

RNGS = partial(generator, 7, 2)
COMBINATIONS = {recipe.name: recipe for recipe in (*CATALOG.values(), *combinations())}


def kind_of_selection(recipe: Recipe) -> tuple[str, ...]:
    """What selection sees of a recipe: it knows scores, not where they come from."""
    schedule = "scheduled" if recipe.parameters.get("beta_end") else ""
    return tuple(part for part in (recipe.selector, recipe.noise, recipe.embedding, schedule) if part)


# one recipe for each kind of selection, that of the catalog where there is one
KINDS = {"-".join(kind_of_selection(recipe)): recipe for recipe in reversed(COMBINATIONS.values())}
needs_submodlib = pytest.mark.skipif(not submodlib_available(), reason="submodlib has no wheel for this interpreter")
CASES = [pytest.param(recipe, "streaming", id=kind) for kind, recipe in KINDS.items()] + [
    pytest.param(recipe, "submodlib", id=f"{kind}-submodlib", marks=needs_submodlib)
    for kind, recipe in KINDS.items()
    if recipe.selector == "flqmi"
]
every_selection = pytest.mark.parametrize("recipe, engine", CASES)
QUERYING = [recipe for recipe in CATALOG.values() if recipe.needs.query]


def batch(recipe, candidates, budget, engine="streaming", rngs=RNGS, moment=FIRST_ROUND) -> list[str]:
    selection = select_batch(recipe, candidates, budget, rngs, engine, moment)
    count = len(candidates.names_N)
    assert len(selection) == min(budget, count)
    assert len(set(selection.indices_B.tolist())) == len(selection)
    assert ((selection.indices_B >= 0) & (selection.indices_B < count)).all()
    assert selection.indices_B.dtype == np.int64
    assert selection.gains_B.dtype == np.float64
    assert np.isfinite(selection.gains_B).all()
    return [candidates.names_N[index] for index in selection.indices_B]


@every_selection
@pytest.mark.parametrize(
    "count, budget", [(60, 7), (60, 0), (60, 60), (60, 99), (1, 1), (1, 3), (2, 1), (0, 4), (0, 0)]
)
def test_the_batch_is_min_of_budget_and_pool_and_unique(recipe, engine, count, budget):
    batch(recipe, pool(count), budget, engine)


@every_selection
def test_same_seed_same_batch(recipe, engine):
    assert batch(recipe, pool(60), 9, engine) == batch(recipe, pool(60), 9, engine)


@every_selection
@pytest.mark.parametrize("count, budget", [(60, 9), (600, 40), (12, 12)])
def test_the_order_of_the_pool_changes_nothing(recipe, engine, count, budget):
    first = batch(recipe, pool(count), budget, engine)
    for seed in range(3):
        assert first == batch(recipe, shuffled(pool(count), seed), budget, engine)


@every_selection
@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_pools(recipe, engine, kind):
    first = batch(recipe, degenerate(kind), 6, engine)
    assert first == batch(recipe, shuffled(degenerate(kind)), 6, engine)
    assert len(batch(recipe, degenerate(kind), 30, engine)) == 30


@every_selection
def test_inputs_are_not_changed(recipe, engine):
    candidates, untouched = read_only(pool(60)), pool(60)
    batch(recipe, candidates, 9, engine)
    assert (candidates.names_N, candidates.cases_N) == (untouched.names_N, untouched.cases_N)
    for field in ARRAYS:
        np.testing.assert_array_equal(getattr(candidates, field), getattr(untouched, field))


@every_selection
def test_another_seed_or_round_matters_only_where_there_is_chance(recipe, engine):
    candidates = pool(300)
    batches = {tuple(sorted(batch(recipe, candidates, 20, engine, partial(generator, seed, 2)))) for seed in range(4)}
    # class_balanced is not certain: which of three classes gets the odd one of 13 regions is drawn
    draws = recipe.noise is not None or recipe.draws_query or "rng" in SELECTORS[recipe.selector].arguments()
    assert (len(batches) == 1) != draws


@pytest.mark.parametrize("name", COMBINATIONS)
def test_every_combination_selects_and_measures_what_it_selects_by(name):
    recipe = COMBINATIONS[name]
    everything = pool(12)
    fields = {"names_N", "cases_N", "foreground_voxels_N"}
    fields |= {{"class_scores": "class_scores_N_C"}.get(measure, f"{measure}_N") for measure in recipe.measures()}
    fields |= {"embeddings_N_d", "references_M_d"} if "embed" in recipe.phases() else set()
    fields |= {"places_N_2", "taken_M_2"} if recipe.needs.places else set()
    known = Candidates(**{field: getattr(everything, field) for field in fields})
    assert batch(recipe, known, 5) == batch(recipe, shuffled(everything), 5)


def test_every_spelling_that_does_not_make_sense_gets_one_sentence():
    refused = accepted = 0
    for spelling in spellings():
        try:
            accepted += get(spelling) is not None
        except StrategyError as error:
            refused += 1
            text = str(error)
            assert spelling in text
            assert text.endswith(".")
            assert ". " not in text
            assert "\n" not in text
            assert len(text) < 330
    assert accepted > 500
    assert refused > 500


def test_power_noise_fades_over_the_planned_rounds():
    # beta grows from 1 to 100, so that batches come closer and closer to the ranking without noise
    clasp, plain = CATALOG["clasp_pe"], with_parameters(CATALOG["class_balanced_entropy"], class_share=0.0)
    clasp = with_parameters(clasp, class_share=0.0)
    candidates = pool(300)
    certain = set(batch(plain, candidates, 30))
    shared = []
    for number in (1, 4, 7, 10):
        seeds = [partial(generator, seed, 2) for seed in range(8)]
        draws = [batch(clasp, candidates, 30, rngs=rngs, moment=Moment(number, 10)) for rngs in seeds]
        shared.append(np.mean([len(certain & set(names)) for names in draws]))
    assert shared == sorted(shared)
    assert shared[0] < 25 < 28 < shared[-1]


def test_schedules_stay_at_their_end_and_one_planned_round_is_the_end():
    candidates, clasp = pool(200), CATALOG["clasp_pe"]
    last = batch(clasp, candidates, 20, moment=Moment(10, 10))
    assert batch(clasp, candidates, 20, moment=Moment(14, 10)) == last
    assert batch(clasp, candidates, 20, moment=Moment(1, 1)) == last
    assert batch(clasp, candidates, 20, moment=Moment(1, 10)) == batch(
        get("mc_dropout+class_balanced+power"), candidates, 20, moment=Moment(5, 10)
    )


@pytest.mark.parametrize("recipe", QUERYING, ids=lambda recipe: recipe.name)
def test_a_query_set_drawn_beforehand_gives_the_same_batch(recipe):
    candidates = pool(60)
    query = draw_query_for(recipe, candidates, 5, RNGS)
    assert batch(recipe, replace(candidates, query=query), 5) == batch(recipe, candidates, 5)


@pytest.mark.parametrize("recipe", QUERYING, ids=lambda recipe: recipe.name)
def test_scaling_all_scores_changes_no_draw(recipe):
    candidates = pool(60)
    scaled = replace(candidates, scores_N=candidates.scores_N * 1024)
    assert batch(recipe, scaled, 5) == batch(recipe, candidates, 5)


def test_cosine_ignores_the_length_of_gradients_and_the_fisher_kernel_does_not():
    candidates = pool(60)
    lengths = np.random.default_rng(3).uniform(0.1, 10, size=(60, 1)).astype(np.float32)
    longer = replace(candidates, embeddings_N_d=candidates.embeddings_N_d * lengths)
    usimc, usimf = CATALOG["usimc"], CATALOG["usimf"]
    assert batch(usimc, longer, 8) == batch(usimc, candidates, 8)
    assert batch(usimf, longer, 8) != batch(usimf, candidates, 8)


def test_a_budget_changes_no_other_purpose():
    # draws are named by purpose: the query set does not depend on how much the selector drew before
    candidates, usimf = pool(60), CATALOG["usimf"]
    first = draw_query_for(usimf, candidates, 5, RNGS)
    batch(usimf, candidates, 5)
    second = draw_query_for(usimf, candidates, 5, RNGS)
    np.testing.assert_array_equal(first.indices_Q, second.indices_Q)
    np.testing.assert_array_equal(first.multiplicities_Q, second.multiplicities_Q)


def test_core_set_keeps_away_from_what_is_annotated():
    candidates = pool(30)
    near = replace(candidates, references_M_d=candidates.embeddings_N_d[:29])
    assert batch(CATALOG["core_set"], near, 1) == [candidates.names_N[29]]


@pytest.mark.parametrize("spelling", ["power_bald", "usimc", "query_sampling", "bald+power+selective"])
def test_negative_scores_are_refused_where_they_are_chances(spelling):
    candidates = pool(10)
    field = "target_scores_N" if "selective" in spelling else "scores_N"
    below = replace(candidates, **{field: getattr(candidates, field) - 10})
    with pytest.raises(StrategyError, match="never negative"):
        batch(get(spelling), below, 3)


@pytest.mark.parametrize("spelling", ["learning_loss", "learning_loss+stochastic_batches", "learning_loss+softrank"])
def test_a_predicted_loss_may_be_negative(spelling):
    candidates = pool(20)
    below = replace(candidates, scores_N=candidates.scores_N - 10)
    assert batch(get(spelling), below, 5) == batch(get(spelling), candidates, 5)


@pytest.mark.parametrize("name", SELECTORS)
def test_every_selector_is_there_and_takes_what_it_needs(name):
    selector = SELECTORS[name]
    taken = selector.arguments()
    assert {"names_N", "budget"} <= set(taken)
    # scores are what a query set is drawn by
    drawn_by = {"scores_N"} if selector.needs.query else set()
    assert set(selector.needs.fields) - {"names_N", "cases_N"} - drawn_by <= set(taken)
    # the parameters of target and boundary belong to the scoring pass
    assert selector.needs.pair or set(selector.parameters) <= set(taken)
    assert ("keys" in taken) == selector.noise


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_there(name):
    metric = METRICS[name]
    assert metric.learned or callable(loaded(metric.function))
    assert metric.phrase
    assert metric.paper != "-"


@pytest.mark.parametrize("name", [name for name, recipe in CATALOG.items() if recipe.selector != "random"])
def test_missing_knowledge_is_our_mistake(name):
    with pytest.raises(AssertionError, match="needs"):
        select_batch(CATALOG[name], Candidates(names_N=["a", "b"]), 1, RNGS)
