"""Spellings: every way to write a recipe leads to one name, and what makes no sense gets a sentence."""

from __future__ import annotations

import pytest
from strategy_combinations import combinations

from nnunet_al.errors import StrategyError
from nnunet_al.strategies.catalog import ALIASES, CATALOG, get, other_names, with_parameters
from nnunet_al.strategies.ingredients import parameters_of

COMBINATIONS = {recipe.name: recipe for recipe in (*CATALOG.values(), *combinations())}


@pytest.mark.parametrize(
    "spelling, posterior, name",
    [
        ("jsd", None, "bald"),
        ("mean_entropy", None, "entropy"),
        ("bald+tta", None, "tta"),
        ("bald", "tta", "tta"),
        ("tta", "tta", "tta"),
        ("bald+tta", "tta", "tta"),
        ("jsd+tta+mean", None, "tta"),
        ("bald", "mc_dropout", "bald"),
        ("entropy", "mc_dropout", "mc_dropout"),
        ("mc_dropout", "tta", "entropy+tta"),
        ("mc_dropout+ensemble", None, "entropy+ensemble"),
        ("margin", "tta", "margin+tta"),
        ("entropy+stochastic_batches", None, "stochastic_batches"),
        ("stochastic_batches+mc_dropout", None, "mc_dropout+stochastic_batches"),
        ("entropy+localized", None, "localized_entropy"),
        ("localized_entropy+stochastic_batches", None, "entropy+localized+stochastic_batches"),
        ("selective+power+mc_dropout", None, "mc_dropout+power+selective"),
        ("class_variance+usimf", None, "usimf"),
        ("class_variance+class_weighted", None, "class_variance"),
        ("usimf", "ensemble", "class_variance+ensemble+usimf"),
        ("bald+usimc", None, "bald+usimc"),
        ("bald+power", None, "power_bald"),
        ("power_bald", "tta", "bald+tta+power"),
        ("bald+kmeans", None, "kmeans_bald"),
        ("entropy+class_balanced", None, "entropy+class_balanced"),
        ("entropy+class_balanced", "mc_dropout", "class_balanced_entropy"),
        ("class_balanced_entropy+power", None, "mc_dropout+power+class_balanced"),
        ("clasp_pe+mc_dropout", None, "clasp_pe"),
        ("clasp_pe", "tta", "clasp_pe+tta"),
        ("learning_loss+softrank", None, "learning_loss+softrank"),
    ],
)
def test_all_spellings_of_a_recipe_have_one_name(spelling, posterior, name):
    recipe = get(spelling, posterior)
    assert recipe.name == name
    assert get(name) == recipe


def test_a_schedule_survives_another_posterior():
    assert get("clasp_pe", "tta").parameters["beta_end"] == 100
    assert get("mc_dropout+power+class_balanced", "tta").parameters["beta_end"] is None


@pytest.mark.parametrize("name", COMBINATIONS)
def test_names_lead_back_to_their_recipe(name):
    recipe = COMBINATIONS[name]
    assert get(name) == recipe
    assert all(get(other) == recipe for other in other_names(recipe))


def test_no_two_names_mean_one_recipe():
    contents = set()
    for recipe in COMBINATIONS.values():
        content = {**recipe.to_json(), "name": "", "summary": "", "paper": ""}
        contents.add(str(sorted(content.items())))
    assert len(contents) == len(COMBINATIONS)


def test_the_order_of_addons_changes_nothing():
    assert get("bald+power+tta+localized") == get("bald+localized+tta+power") == get("bald+tta+localized+power")


def test_aliases_are_no_names():
    assert not set(ALIASES) & set(CATALOG)
    assert all(get(alias).name == name for alias, name in ALIASES.items())


@pytest.mark.parametrize("posterior", ["deterministic", "mc_dropout", "tta", "ensemble"])
def test_another_posterior_keeps_all_other_parameters(posterior):
    agreed = 0
    for name, recipe in COMBINATIONS.items():
        try:
            other = get(name, posterior)
        except StrategyError:
            continue
        assert other.posterior == posterior
        gone = parameters_of(recipe.posterior) if recipe.posterior != posterior else {}
        kept = {key: value for key, value in recipe.parameters.items() if key not in gone}
        assert kept.items() <= other.parameters.items()
        agreed += 1
    assert agreed > 50


def test_parameters_lead_to_the_name_that_stands_for_them():
    spelled = get("mc_dropout+power+class_balanced")
    assert spelled.name == "mc_dropout+power+class_balanced"
    assert with_parameters(spelled, beta_end=100) == CATALOG["clasp_pe"]
    assert with_parameters(get("clasp_pe", "tta"), beta_end=None).name == "clasp_pe+tta"


@pytest.mark.parametrize(
    "name, parameters", [("usimf", {"eta": 0}), ("clasp_pe", {"beta_end": 50}), ("clasp_pe", {"beta_end": None})]
)
def test_a_strategy_keeps_its_name_with_other_parameters(name, parameters):
    changed = with_parameters(get(name), **parameters)
    assert changed.name == name
    assert parameters.items() <= changed.parameters.items()
    assert with_parameters(changed, **{key: get(name).parameters[key] for key in parameters}) == get(name)


@pytest.mark.parametrize(
    "spelling, words",
    [
        ("usmif", "did you mean usimf"),
        ("zzz", "use one of random, "),
        ("bald+powr", "did you mean power"),
        ("bald+", "add-on ''"),
        ("bald+power+softrank", "two add-ons of the kind noise, 'power' and 'softrank'"),
        ("bald+power+power", "two add-ons"),
        ("bald+margin", "a metric comes first: write margin"),
        ("power+bald", "for example bald.power"),
        ("random+power", "no scores"),
        ("core_set+mc_dropout", "no scores"),
        ("entropy+core_set", "takes no scores"),
        ("usimf+stochastic_batches", "has the selector 'usimf' already"),
        ("usimf+usimc", "has the selector 'usimf' already"),
        ("stochastic_batches+top_k", "already"),
        ("tta+ensemble", "has the posterior 'tta' already"),
        ("power_bald+softrank", "has the noise 'power' already"),
        ("localized_entropy+target", "has the reduction 'localized' already"),
        ("localized_entropy+selective", "leave out the reduction 'localized'"),
        ("bald+deterministic", "needs posterior samples"),
        ("mc_dropout+deterministic", "or the metric entropy"),
        ("class_variance+mean", "use class_weighted"),
        ("class_variance+selective", "per class"),
        ("bald+class_weighted", "use mean"),
        ("bald+selective+mean", "leave out the reduction 'mean'"),
        ("entropy+power+stochastic_batches", "does not rank"),
        ("usimf+power", "does not rank"),
        ("bald+class_balanced", "use the metric entropy or mc_dropout"),
        ("entropy+localized+class_balanced", "reduction mean"),
        ("learning_loss+power", "may be negative"),
        ("learning_loss+usimf", "may be negative"),
        ("learning_loss+query_sampling", "may be negative"),
        ("learning_loss+selective", "no values for voxels"),
        ("learning_loss+localized", "no values for voxels"),
        ("learning_loss+tta", "leave out 'tta'"),
    ],
)
def test_what_makes_no_sense_gets_one_sentence(spelling, words):
    with pytest.raises(StrategyError, match=words) as caught:
        get(spelling)
    assert "\n" not in str(caught.value)


def test_a_posterior_is_checked_like_an_addon():
    with pytest.raises(StrategyError, match="did you mean tta"):
        get("bald", "tta2")
    with pytest.raises(StrategyError, match="two add-ons of the kind posterior"):
        get("bald+ensemble", "mc_dropout")
    with pytest.raises(StrategyError, match="no scores"):
        get("random", "tta")
