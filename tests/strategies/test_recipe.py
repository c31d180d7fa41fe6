from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest

from nnunet_al.errors import StrategyError
from nnunet_al.strategies.catalog import CATALOG, explain, get, table
from nnunet_al.strategies.parameters import PARAMETERS, PARAMETERS_OF
from nnunet_al.strategies.recipe import (
    EMBEDDINGS,
    METRICS,
    PER_CLASS_METRICS,
    POSTERIORS,
    REDUCTIONS,
    SELECTORS,
    Recipe,
)

ENTROPY = {"metric": "entropy", "reduction": "mean", "posterior": "deterministic", "selector": "top_k"}
USIM = {
    "metric": "class_variance",
    "reduction": "class_weighted",
    "posterior": "mc_dropout",
    "embedding": "fisher",
    "selector": "flqmi",
}


def recipe(**ingredients) -> Recipe:
    return Recipe(name="mine", summary="", paper="", **ingredients)


@pytest.mark.parametrize("name", CATALOG)
def test_json_and_pickle_give_the_same_recipe(name):
    original = CATALOG[name]
    assert Recipe.from_json(json.loads(json.dumps(original.to_json()))) == original
    assert pickle.loads(pickle.dumps(original)) == original
    assert hash(pickle.loads(pickle.dumps(original))) == hash(original)


@pytest.mark.parametrize(
    "name, phases, passes",
    [
        ("random", (), 0),
        ("random_foreground", ("score",), 1),
        ("entropy", ("score",), 1),
        ("bald", ("score",), 10),
        ("usimc", ("score", "embed"), 10),
        ("usimf", ("score", "fisher", "embed"), 10),
    ],
)
def test_phases_and_passes(name, phases, passes):
    assert get(name).phases() == phases
    assert get(name).passes == passes


def test_parameters_are_completed_and_overridden():
    usimf = get("usimf")
    assert usimf.parameters["embedding_size"] == 10_000
    changed = usimf.with_parameters(passes=3, query_mode="max", query_size=50)
    assert (changed.passes, changed.parameters["query_mode"], changed.parameters["query_size"]) == (3, "max", 50)
    assert usimf.passes == 10
    assert changed != usimf
    assert changed.with_parameters(passes=10, query_mode="uncertainty", query_size=None) == usimf


def test_parameters_cannot_be_changed_in_place():
    with pytest.raises(TypeError):
        get("usimf").parameters["eta"] = 3  # type: ignore[index]


@pytest.mark.parametrize(
    "name, overrides, words",
    [
        ("entropy", {"passes": 5}, "takes none"),
        ("bald", {"share": 0.5}, "it takes passes"),
        ("bald", {"passes": 0}, "whole number"),
        ("bald", {"passes": 2.5}, "whole number"),
        ("bald", {"passes": True}, "whole number"),
        ("usimf", {"query_mode": "best"}, "uncertainty, uniform, max"),
        ("usimf", {"epsilon": 1}, "between 0 and 1"),
        ("usimf", {"eta": float("nan")}, "from 0"),
        ("usimf", {"damping": 0}, "above 0"),
        ("random_foreground", {"share": 1.5}, "from 0 to 1"),
    ],
)
def test_bad_parameters_get_one_sentence(name, overrides, words):
    with pytest.raises(StrategyError, match=words) as caught:
        get(name).with_parameters(**overrides)
    assert name in str(caught.value)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    "ingredients, words",
    [
        ({**ENTROPY, "metric": "entrpy"}, "metric 'entrpy'"),
        ({**ENTROPY, "reduction": "median"}, "reduction 'median'"),
        ({**ENTROPY, "reduction": None}, "reduction"),
        ({**ENTROPY, "posterior": "magic"}, "posterior 'magic'"),
        ({**ENTROPY, "selector": "best"}, "selector 'best'"),
        ({**USIM, "embedding": "umap"}, "embedding 'umap'"),
        ({**ENTROPY, "metric": "bald"}, "posterior samples"),
        ({**ENTROPY, "posterior": "none"}, "do not go together"),
        ({**ENTROPY, "selector": "random"}, "no metric"),
        ({**ENTROPY, "embedding": "fisher"}, "no embedding"),
        ({**USIM, "embedding": None}, "an embedding"),
        ({**USIM, "reduction": "mean"}, "per class"),
        ({**ENTROPY, "reduction": "class_weighted"}, "per class"),
        ({"selector": "random", "posterior": "mc_dropout"}, "do not go together"),
        ({"selector": "random", "reduction": "mean"}, "no metric"),
        ({"selector": "top_k", "posterior": "deterministic"}, "needs a metric"),
    ],
)
def test_ingredients_that_do_not_go_together_are_refused(ingredients, words):
    with pytest.raises(StrategyError, match=words) as caught:
        recipe(**ingredients)
    assert "mine" in str(caught.value)


def test_a_recipe_of_another_version_is_refused():
    content = get("bald").to_json()
    with pytest.raises(StrategyError, match=r"another version.*temperature"):
        Recipe.from_json({**content, "temperature": 1})
    del content["selector"]
    with pytest.raises(StrategyError, match="selector"):
        Recipe.from_json(content)


def test_every_ingredient_with_parameters_exists():
    known = {*POSTERIORS, *EMBEDDINGS, *SELECTORS}
    assert set(PARAMETERS_OF) <= known
    assert {name for names in PARAMETERS_OF.values() for name in names} == set(PARAMETERS)
    assert all(parameter.accepts(parameter.default) for parameter in PARAMETERS.values())


def test_names_are_those_of_scoring():
    maps = pytest.importorskip("nnunet_al.scoring.maps", reason="the voxel maps are not there yet")
    reductions = pytest.importorskip("nnunet_al.scoring.reductions", reason="the reductions are not there yet")
    assert {name: voxel_map.needs_samples for name, voxel_map in maps.MAPS.items()} == METRICS
    assert {name for name, voxel_map in maps.MAPS.items() if voxel_map.per_class} == PER_CLASS_METRICS
    assert set(REDUCTIONS) == set(reductions.REDUCTIONS)


def test_unknown_strategies_are_answered_with_the_nearest():
    with pytest.raises(StrategyError, match="did you mean usimf"):
        get("usmif")
    with pytest.raises(StrategyError, match="use one of random, "):
        get("zzz")


def test_the_table_has_a_line_for_each_strategy():
    lines = table().splitlines()
    assert len(lines) == len(CATALOG) + 2
    starts = [line.split()[0] for line in lines[2:]]
    assert starts == list(CATALOG)
    for line, entry in zip(lines[2:], CATALOG.values(), strict=True):
        assert entry.spelling in line
        assert entry.paper in line


@pytest.mark.parametrize("name", CATALOG)
def test_explain_says_everything(name):
    text = explain(name)
    for part in (name, CATALOG[name].summary, CATALOG[name].paper, CATALOG[name].spelling, *CATALOG[name].parameters):
        assert part in text


def test_the_catalog_loads_nothing_heavy():
    code = (
        "import sys, nnunet_al.strategies.catalog, nnunet_al.strategies.select; "
        "print([name for name in ('torch', 'nnunetv2', 'matplotlib', 'scipy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
