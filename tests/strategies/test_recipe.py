from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest
from strategy_combinations import combinations

from nnunet_al.errors import StrategyError
from nnunet_al.strategies.catalog import CATALOG, get, with_parameters
from nnunet_al.strategies.compatibility import checked, read
from nnunet_al.strategies.ingredients import (
    EMBEDDINGS,
    LOSS_MODULE,
    NOISES,
    POSTERIORS,
    QUERY,
    REDUCTIONS,
    WEIGHTINGS,
    parameters_of,
)
from nnunet_al.strategies.listing import explain
from nnunet_al.strategies.metrics import CLASS_SCORES
from nnunet_al.strategies.recipe import Recipe
from nnunet_al.strategies.selectors import SELECTORS

INGREDIENTS = (*POSTERIORS, *EMBEDDINGS, *SELECTORS, *REDUCTIONS, *WEIGHTINGS, *NOISES, QUERY, LOSS_MODULE)
ENTROPY = {"metric": "entropy", "reduction": "mean", "posterior": "deterministic", "selector": "top_k"}
USIM = {
    "metric": "class_variance",
    "reduction": "class_weighted",
    "posterior": "mc_dropout",
    "embedding": "fisher",
    "selector": "flqmi",
}


def recipe(**ingredients) -> Recipe:
    return checked(Recipe(name="mine", summary="", paper="", **ingredients))


@pytest.mark.parametrize("name", CATALOG)
def test_json_and_pickle_give_the_same_recipe(name):
    original = CATALOG[name]
    assert read(json.loads(json.dumps(original.to_json()))) == original
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
        ("core_set", ("score", "embed"), 1),
        ("badge", ("score", "embed"), 1),
        ("kmeans_bald", ("score", "embed"), 10),
        ("query_sampling", ("score",), 10),
        ("tta", ("score",), 8),
        ("ensemble", ("score",), 5),
        ("learning_loss", ("score",), 1),
    ],
)
def test_phases_and_passes(name, phases, passes):
    assert get(name).phases() == phases
    assert get(name).passes == passes


def test_parameters_are_completed_and_overridden():
    usimf = get("usimf")
    assert usimf.parameters["embedding_size"] == 10_000
    changed = with_parameters(usimf, passes=3, query_mode="max", query_size=50)
    assert (changed.passes, changed.parameters["query_mode"], changed.parameters["query_size"]) == (3, "max", 50)
    assert usimf.passes == 10
    assert changed != usimf
    assert with_parameters(changed, passes=10, query_mode="uncertainty", query_size=None) == usimf
    assert with_parameters(changed, query_size="none").parameters["query_size"] is None


def test_defaults_depend_on_the_ingredient():
    assert (get("bald").parameters["passes"], get("bald+tta").parameters["passes"]) == (10, 8)
    assert get("power_bald").parameters["beta_end"] is None
    assert get("clasp_pe").parameters["beta_end"] == 100


@pytest.mark.parametrize(
    "name, measures",
    [
        ("random", {}),
        ("random_foreground", {}),
        ("core_set", {}),
        ("badge", {}),
        ("bald", {"scores": ("bald", "mean")}),
        ("usimf", {"scores": ("class_variance", "class_weighted")}),
        ("learning_loss", {"scores": ("learning_loss", "mean")}),
        ("localized_entropy", {"scores": ("entropy", "localized")}),
        (
            "selective",
            {
                "target_scores": ("entropy", "target"),
                "boundary_scores": ("entropy", "boundary"),
                "mean_scores": ("entropy", "mean"),
            },
        ),
        ("clasp_pe", {"scores": ("mc_dropout", "mean"), "class_scores": ("class_entropy", "class_means")}),
    ],
)
def test_measures_name_what_the_scoring_pass_computes(name, measures):
    assert get(name).measures() == measures


def test_only_learning_loss_needs_a_trainer_of_its_own():
    trainers = {name: entry.trainer for name, entry in CATALOG.items() if entry.trainer is not None}
    assert trainers == {"learning_loss": "nnUNetTrainerALLearningLoss"}


def test_parameters_cannot_be_changed_in_place():
    with pytest.raises(TypeError):
        get("usimf").parameters["eta"] = 3  # type: ignore[index]


@pytest.mark.parametrize(
    "name, overrides, words",
    [
        ("entropy", {"passes": 5}, "takes none"),
        ("bald", {"share": 0.5}, "it takes passes"),
        ("bald", {"passes": "none"}, "whole number"),
        ("clasp_pe", {"beta": 0}, "from 0.000001 to 1000000"),
        ("clasp_pe", {"beta": 1e-320}, "from 0.000001 to 1000000"),
        ("clasp_pe", {"beta_end": 1e300}, "from 0.000001 to 1000000, or none"),
        ("usimf", {"eta": 1e308}, "from 0 to 1000000"),
        ("usimf", {"epsilon": 1e-320}, "from 0.000001 to below 1"),
        ("usimf", {"query_size": 10**12}, "from 1 to 10000000, or none"),
        ("localized_entropy", {"dilation_mm": 1e200}, "from 0 to 1000000"),
        ("kmeans_bald", {"per_case": 1e308}, "from 0.000001 to 1000000"),
        ("kmeans_bald", {"per_case": float("inf")}, "from 0.000001 to 1000000"),
        ("ensemble", {"members": 1}, "whole number from 2 to 10000000"),
        ("tta", {"noise_variance": -1}, "from 0"),
        ("ensemble", {"ensemble_of": "seeds"}, "rounds, folds"),
        ("bald", {"passes": 0}, "whole number"),
        ("bald", {"passes": 2.5}, "whole number"),
        ("bald", {"passes": True}, "whole number"),
        ("usimf", {"query_mode": "best"}, "uncertainty, uniform, max"),
        ("usimf", {"epsilon": 1}, "below 1"),
        ("usimf", {"passes": 1}, "passes from 2 on"),
        ("bald", {"passes": 1}, "passes from 2 on"),
        ("mean_std", {"passes": 1}, "passes from 2 on"),
        ("tta", {"passes": 1}, "passes from 2 on"),
        ("usimf", {"eta": float("nan")}, "from 0"),
        ("usimf", {"damping": 0}, "from 0.000001"),
        ("random_foreground", {"share": 1.5}, "from 0 to 1"),
        ("learning_loss", {"loss_margin": -1}, "from 0"),
        ("selective", {"target_threshold": "q1"}, "from 0 to below 1, or for example q0.9"),
        ("selective", {"boundary_width": "q0.0"}, "or for example q0.9"),
        ("selective", {"boundary_width": "0.1q"}, "or for example q0.9"),
    ],
)
def test_bad_parameters_get_one_sentence(name, overrides, words):
    with pytest.raises(StrategyError, match=words) as caught:
        with_parameters(get(name), **overrides)
    assert name in str(caught.value)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    "ingredients, words",
    [
        ({**ENTROPY, "metric": "entrpy"}, "metric 'entrpy'"),
        ({**ENTROPY, "reduction": "median"}, "reduction 'median'"),
        ({**ENTROPY, "reduction": None}, "no reduction"),
        ({**ENTROPY, "reduction": "class_means"}, "reduction 'class_means'"),
        ({**ENTROPY, "noise": "salt"}, "noise 'salt'"),
        ({**ENTROPY, "selector": "selective"}, "leave out the reduction"),
        ({**ENTROPY, "selector": "kmeans", "embedding": "fisher"}, "features"),
        ({**ENTROPY, "noise": "power", "selector": "stochastic_batches"}, "does not rank"),
        ({"selector": "core_set", "posterior": "tta", "embedding": "features"}, "no metric that could measure"),
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
        read({**content, "temperature": 1})
    del content["selector"]
    with pytest.raises(StrategyError, match="selector"):
        read(content)


def test_a_recipe_of_before_there_was_noise_can_be_read():
    content = get("usimc").to_json()
    del content["noise"], content["parameters"]["compression"]
    assert read(content) == with_parameters(get("usimc"), compression="truncate")


def test_campaigns_that_began_before_there_were_heads_and_layers_keep_their_gradients():
    content = get("usimf").to_json()
    assert (content["parameters"]["heads"], content["parameters"]["layers"]) == ("all", "decoder")
    assert read(content) == get("usimf")
    former_default = with_parameters(get("usimf"), heads="trained")
    assert read(former_default.to_json()) == former_default
    del content["parameters"]["heads"], content["parameters"]["layers"]
    assert read(content) == with_parameters(get("usimf"), heads="full", layers="all")
    truncated = with_parameters(get("usimc"), compression="truncate").to_json()
    assert read(truncated).parameters["compression"] == "truncate"
    assert read(get("usimc").to_json()).parameters["compression"] == "auto"
    assert read(get("core_set").to_json()) == get("core_set")


def test_usimf_says_in_a_line_how_it_departs_from_paper_and_code():
    (line,) = [line for line in explain("usimf").splitlines() if line.startswith("  departs")]
    assert all(part in line for part in ("all parameters (layers=all heads=full)", "all heads", "never trained"))
    assert "departs" not in explain("usimc")


def test_one_metric_has_one_name():
    assert recipe(**{**ENTROPY, "posterior": "mc_dropout"}).metric == "mc_dropout"
    assert recipe(**{**ENTROPY, "metric": "mc_dropout", "posterior": "tta"}).metric == "entropy"
    assert recipe(**{**ENTROPY, "metric": "jsd", "posterior": "tta"}).metric == "bald"


def test_every_parameter_accepts_its_default():
    assert all(known.accepts(known.default) for name in INGREDIENTS for known in parameters_of(name).values())


def test_defaults_are_those_of_the_methods():
    over_set = {"reduce": "sum", "empty_sets": "skip", "foreground": "roi"}
    taken = {name: {key: known.default for key, known in parameters_of(name).items()} for name in INGREDIENTS}
    assert {name: defaults for name, defaults in taken.items() if defaults} == {
        "mc_dropout": {"passes": 10},
        "tta": {
            "passes": 8,
            "noise_variance": 1e-4,
            "noise_unit": "percentiles",
            "plain_image": "first",
            "max_angle": 10,
        },
        "ensemble": {"ensemble_of": "rounds", "members": 5},
        "localized": {"dilation_mm": 3, "likely_above": 0.1},
        "target": {"target_threshold": 0.2, **over_set},
        "boundary": {"boundary_width": 0.1, **over_set},
        "fair": {"shrinkage": 0, "largest_ratio": None, "dice_of": "held_out"},
        "bottleneck_gradient": {"embedding_size": 10_000, "compression": "auto"},
        "decoder_gradient": {"embedding_size": 10_000, "compression": "truncate"},
        "fisher": {
            "embedding_size": 10_000,
            "heads": "all",
            "layers": "decoder",
            "fisher_samples": 200,
            "damping": 0.001,
        },
        "features": {"pooling": "mean"},
        "power": {"beta": 1, "beta_end": None},
        "stochastic_batches": {"num_batches": None},
        "selective": {"target_threshold": 0.2, "boundary_width": 0.1, **over_set},
        "class_balanced": {"class_share": 0.66},
        "kmeans": {"per_case": 2},
        "random_foreground": {"share": 1 / 3},
        QUERY: {"query_mode": "uncertainty", "query_size": None},
        LOSS_MODULE: {"loss_features": "decoder", "loss_margin": 1},
        "flqmi": {"eta": 1, "epsilon": 0.01, "greedy": "stochastic"},
    }


def test_a_threshold_may_be_a_quantile():
    changed = with_parameters(get("selective"), target_threshold="q0.95", boundary_width="q.1")
    assert (changed.parameters["target_threshold"], changed.parameters["boundary_width"]) == ("q0.95", "q.1")
    assert read(json.loads(json.dumps(changed.to_json()))) == changed


def test_a_recipe_from_before_a_parameter_goes_on_as_it_did():
    dice_of, noise = {"dice_of": "model"}, {"noise_unit": "normalised", "plain_image": "none"}
    for name, former in {"usimf+fair": dice_of, "tta": noise, "entropy+tta+fair": {**dice_of, **noise}}.items():
        content = get(name).to_json()
        content["parameters"] = {key: value for key, value in content["parameters"].items() if key not in former}
        assert dict(read(content).parameters) == {**get(name).parameters, **former}
    content = get("tta").to_json() | {"parameters": {"passes": 8, "noise_variance": 0.01, "max_angle": 10.0}}
    assert read(content).parameters["noise_variance"] == 0.01, "its own, in its own unit"


def test_entropies_mean_something_of_one_sample():
    assert with_parameters(get("mc_dropout"), passes=1).passes == 1
    assert with_parameters(get("entropy+tta"), passes=1).passes == 1


def test_a_query_set_has_its_parameters_in_every_recipe_that_draws_one():
    drawing = {entry.name for entry in CATALOG.values() if "query_size" in entry.parameters}
    assert drawing == {"usimc", "usimf", "query_sampling"}
    assert all("query_mode" in CATALOG[name].parameters for name in drawing)


def test_no_two_ingredients_of_a_recipe_share_a_parameter():
    for entry in combinations():
        names = [name for ingredient in entry.ingredients for name in parameters_of(ingredient)]
        assert len(names) == len(set(names))


def test_reductions_are_those_of_scoring():
    from nnunet_al.scoring.reductions import REDUCTIONS as KNOWN

    assert {*REDUCTIONS, CLASS_SCORES[1]} == set(KNOWN)


def test_the_catalog_loads_nothing_heavy():
    code = (
        "import sys, nnunet_al.strategies.listing, nnunet_al.strategies.select; "
        "print([name for name in ('torch', 'nnunetv2', 'matplotlib', 'scipy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
