"""Strategies of other packages: the example is installed for real, the bad ones are as entry points see them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.metadata import PathDistribution
from pathlib import Path

import numpy as np
import pytest

from nnunet_al.errors import StrategyError
from nnunet_al.seeding import generator
from nnunet_al.selection.query import QuerySet
from nnunet_al.selection.selection import Selection, order_by_name
from nnunet_al.strategies import catalog, listing, plugins, registry
from nnunet_al.strategies.catalog import with_parameters
from nnunet_al.strategies.compatibility import checked, read
from nnunet_al.strategies.kinds import Metric, Needs, Selector
from nnunet_al.strategies.parameters import count
from nnunet_al.strategies.recipe import Recipe
from nnunet_al.strategies.registry import register
from nnunet_al.strategies.select import draw_query_for, select_batch

from .pools import pool

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_strategy"
RNGS = partial(generator, 7, 2)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    source, target = tmp_path_factory.mktemp("source") / "own_strategy", tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE, source)  # building leaves folders beside the source
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", target, source], check=True)
    return target


def in_a_process(installed: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(EXAMPLE.parents[1])])}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


def test_the_example_is_explained_by_the_command(installed):
    command = "import sys; from nnunet_al.cli.strategies import main; sys.exit(main(sys.argv[1:]))"
    explained = in_a_process(installed, "-c", command, "gini")
    assert explained.returncode == 0, explained.stderr
    assert "gini: Selects regions with the highest mean Gini impurity." in explained.stdout
    composed = in_a_process(installed, "-c", command, "gini+tta+power")
    assert composed.stdout.startswith("gini+tta+power: Selects the regions with the highest Gini impurity")
    assert "\ngini " in in_a_process(installed, "-c", command).stdout
    assert "gini" not in in_a_process(installed, "-c", command, "--markdown").stdout


def test_the_example_selects_and_survives_the_way_to_a_worker(installed, tmp_path):
    # the second process gets the recipe as campaign.json and workers do, and has not asked for its name
    code = (
        "import pickle, sys; from functools import partial; import numpy as np, torch\n"
        "from nnunet_al.seeding import generator\n"
        "from nnunet_al.strategies import catalog, registry\n"
        "from nnunet_al.strategies.select import Candidates, select_batch\n"
        "path = sys.argv[1]\n"
        "if sys.argv[2] == 'write': pickle.dump(catalog.get('gini+power'), open(path, 'wb')); sys.exit()\n"
        "recipe = pickle.load(open(path, 'rb'))\n"
        "probs = torch.tensor([[[[1.0, 0.5]], [[0.0, 0.5]]]]).permute(0, 2, 1, 3)\n"
        "print(recipe.name, recipe.measures(), registry.voxel_map('gini')(probs, True).tolist())\n"
        "rows = Candidates(['a', 'b', 'c'], np.array([0.0, 1.0, 0.0]))\n"
        "print(select_batch(recipe, rows, 1, partial(generator, 0, 1)).indices_B)\n"
    )
    file = str(tmp_path / "recipe.pickle")
    assert in_a_process(installed, "-c", code, file, "write").returncode == 0
    done = in_a_process(installed, "-c", code, file, "read")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("gini+power {'scores': ('gini', 'mean')}")
    assert lines[0].endswith("[[0.0, 0.5]]")
    assert lines[1] == "[1]"


def test_the_documentation_shows_the_example():
    page = (EXAMPLE.parents[1] / "docs" / "extending.md").read_text()
    assert (EXAMPLE / "nnunet_al_gini.py").read_text().strip() in page
    assert 'gini = "nnunet_al_gini:RECIPE"' in page
    assert 'gini = "nnunet_al_gini:RECIPE"' in (EXAMPLE / "pyproject.toml").read_text()


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Return a function that puts a package with one module and its entry points where they are found."""
    known = registry._REGISTRY
    fresh = replace(known, metrics=dict(known.metrics), selectors=dict(known.selectors), problems={}, load=plugins.load)
    monkeypatch.setattr(registry, "_REGISTRY", fresh)
    monkeypatch.setattr(catalog, "_OF_PACKAGES", {})
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def add(package: str, code: str, *names: str, module: str | None = None) -> None:
        module = module or package.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{package.replace('-', '_')}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        points = "".join(f"{name} = {module}:RECIPE\n" for name in names)
        (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{points}")
        assert PathDistribution(info).name == package

    yield add
    for name in set(sys.modules) - before:
        if name.startswith("pkg_"):
            del sys.modules[name]


GOOD = (
    "from nnunet_al.strategies.recipe import Recipe\n"
    "RECIPE = Recipe('', 'mine', 'me', 'random_foreground', posterior='deterministic', parameters={'share': 0.5})\n"
)
REGISTER = "from nnunet_al.strategies.kinds import Metric\nfrom nnunet_al.strategies.registry import register\n"
SAME = "from nnunet_al.strategies.catalog import get\nRECIPE = get('bald+localized')\n"


def test_a_package_that_does_not_load_harms_nobody_else(packages):
    packages("pkg-broken", "raise RuntimeError('no luck\\n today')", "broken")
    packages("pkg-good", GOOD, "good")
    assert catalog.get("good").name == "good"
    assert catalog.get("bald") is catalog.CATALOG["bald"]
    with pytest.raises(StrategyError, match=r"'broken' of the package 'pkg-broken' does not load: no luck today\.$"):
        catalog.get("broken")
    table = listing.table()
    assert "\ngood " in table
    assert "package 'pkg-broken' does not load" in table


@pytest.mark.parametrize(
    "name, code, words",
    [
        ("bald", GOOD, "taken"),
        ("power", GOOD, "taken"),
        ("jsd", GOOD, "taken"),
        ("my-own", GOOD, "letters, digits"),
        ("thing", "RECIPE = 3", "no Recipe"),
        ("thing", "import nnunet_al_that_is_not_there", "No module named"),
        ("thing", REGISTER + "register('bald', Metric(print))", "taken"),
        ("thing", GOOD.replace("random_foreground", "best"), "selector 'best'"),
    ],
)
def test_what_is_wrong_with_a_package_is_said_in_a_sentence_that_names_it(packages, name, code, words):
    packages("pkg-mine", code, name)
    sentence = registry.problems()[name]
    assert "'pkg-mine'" in sentence
    assert words in sentence
    assert "\n" not in sentence
    assert sentence in listing.table()
    assert name not in catalog.of_packages()
    if name not in {"bald", "jsd"}:
        with pytest.raises(StrategyError):
            catalog.get(name)
    assert catalog.get("bald").paper == catalog.CATALOG["bald"].paper


def test_another_name_for_built_in_ingredients_is_one_more_spelling(packages):
    packages("pkg-same", SAME, "same")
    recipe = catalog.get("same")
    assert recipe == catalog.get("bald+localized")
    assert "same" in catalog.other_names(recipe)
    assert "also       same" in listing.explain("bald+localized")


def test_two_packages_with_one_name_are_both_left_out(packages):
    packages("pkg-one", GOOD, "twin")
    packages("pkg-two", GOOD, "twin")
    with pytest.raises(StrategyError, match="'pkg-one' and 'pkg-two' both bring a strategy 'twin'"):
        catalog.get("twin")


def test_what_a_package_registered_before_it_failed_is_forgotten(packages):
    packages("pkg-half", f"{REGISTER}register('half', Metric(print))\nraise ValueError('x')", "whole")
    assert registry.metric("half") is None
    with pytest.raises(StrategyError, match="no strategy 'half'"):
        catalog.get("half")


def test_packages_are_loaded_when_a_name_is_not_built_in_and_once(packages):
    code = "import builtins\nbuiltins.nnunet_al_loads = getattr(builtins, 'nnunet_al_loads', 0) + 1\n" + GOOD
    packages("pkg-count", code, "counted")
    assert catalog.get("bald+power").name == "power_bald"
    assert "pkg_count" not in sys.modules
    assert catalog.get("counted") == catalog.get("counted")
    assert "pkg_count" in sys.modules


def test_a_recipe_of_a_missing_package_is_refused_by_the_name_of_what_is_missing(packages):
    packages("pkg-broken", "raise RuntimeError('no luck')", "broken")
    content = {**catalog.get("bald").to_json(), "name": "lost", "metric": "lost"}
    with pytest.raises(StrategyError, match=r"metric 'lost', which is not there .*pkg-broken.*no luck"):
        read(content)


def largest_name(names_N, budget):
    order_N = order_by_name(names_N)[::-1][: max(budget, 0)]
    return Selection(order_N, np.zeros(len(order_N)))


def test_an_own_selector_is_an_addon_and_selects(packages):
    register("last", Selector(largest_name, Needs(scores=True), phrase="the last names"))
    recipe = catalog.get("bald+last+tta")
    assert recipe.name == "bald+tta+last"
    assert catalog.get(recipe.name) == recipe
    assert recipe.phases() == ("score",)
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert read(json.loads(json.dumps(recipe.to_json()))) == recipe
    candidates = pool(20)
    chosen = select_batch(recipe, candidates, 3, RNGS)
    assert [candidates.names_N[i] for i in chosen.indices_B] == sorted(candidates.names_N)[:-4:-1]
    assert "last" in listing.grammar()
    with pytest.raises(StrategyError, match="does not rank"):
        catalog.get("bald+power+last")


def test_an_own_selector_that_breaks_its_promise_is_named(packages):
    register("short", Selector(lambda *_: Selection(np.zeros(1), np.zeros(1)), Needs(scores=True)))
    with pytest.raises(StrategyError, match="'short' of another package did not return a Selection of 3 of the 20"):
        select_batch(catalog.get("bald+short"), pool(20), 3, RNGS)


def twice(budget):
    return Selection(np.zeros(budget), np.zeros(budget))


def without_gain(budget):
    return Selection(np.arange(budget), np.full(budget, np.nan))


def uneven(budget):
    return Selection(np.arange(budget), np.zeros(1))


def twice_afterwards(budget):
    selection = Selection(np.arange(budget), np.zeros(budget))
    selection.indices_B[:] = 0
    return selection


@pytest.mark.parametrize(
    "function, words",
    [(twice, "twice"), (without_gain, "not finite"), (uneven, "one gain"), (twice_afterwards, "twice")],
)
def test_an_own_selector_that_returns_no_batch_is_named(packages, function, words):
    register("odd", Selector(function, Needs(scores=True)))
    with pytest.raises(StrategyError, match=rf"'odd' of another package .* 3 of the 20 regions \(.*{words}") as caught:
        select_batch(catalog.get("bald+odd"), pool(20), 3, RNGS)
    assert "\n" not in str(caught.value)


def first_of_query(query, budget):
    return Selection(query.indices_Q[:budget], query.multiplicities_Q[:budget])


def test_an_own_selector_gets_the_query_set_that_it_needs(packages):
    register("asked", Selector(first_of_query, Needs(scores=True, query=True)))
    recipe = with_parameters(catalog.get("bald+asked"), query_size=500, query_mode="uniform")
    candidates = pool(20)
    query = draw_query_for(recipe, candidates, 3, RNGS)
    assert query.draws == 500
    for given in (candidates, replace(candidates, query=query)):
        chosen = select_batch(recipe, given, 3, RNGS)
        np.testing.assert_array_equal(chosen.indices_B, query.indices_Q[:3])
        np.testing.assert_array_equal(chosen.gains_B, query.multiplicities_Q[:3])
    other = replace(candidates, query=QuerySet([5, 6, 7], [1, 1, 1]))
    np.testing.assert_array_equal(select_batch(recipe, other, 3, RNGS).indices_B, [5, 6, 7])
    with pytest.raises(StrategyError, match="may be negative"):
        catalog.get("learning_loss+asked")


BALD = {"metric": "bald", "reduction": "mean", "posterior": "mc_dropout"}


def test_the_fisher_embedding_draws_a_query_set_for_an_own_selector(packages):
    register("spread", Selector(largest_name, Needs(scores=True, embedding=True)))
    recipe = checked(Recipe("mine", "", "", "spread", embedding="fisher", **BALD, parameters={"query_size": 9}))
    assert recipe.phases() == ("score", "fisher", "embed")
    assert draw_query_for(recipe, pool(20), 3, RNGS).draws == 9
    assert len(select_batch(recipe, pool(20), 3, RNGS)) == 3
    features = checked(Recipe("mine", "", "", "spread", embedding="features", **BALD))
    assert "query_size" not in features.parameters
    learned = {"metric": "learning_loss", "reduction": "mean", "posterior": "deterministic"}
    with pytest.raises(StrategyError, match="may be negative"):
        checked(Recipe("mine", "", "", "spread", embedding="fisher", **learned))


@pytest.mark.parametrize(
    "needs, embedding, words",
    [
        (Needs(embedding=True), "fisher", "embedding 'fisher', which works on a query set"),
        (Needs(query=True), None, "selector 'blind', which works on a query set"),
    ],
)
def test_a_query_set_without_scores_is_refused(packages, needs, embedding, words):
    register("blind", Selector(largest_name, needs))
    with pytest.raises(StrategyError, match=words) as caught:
        checked(Recipe("mine", "", "", "blind", posterior="deterministic", embedding=embedding))
    assert "\n" not in str(caught.value)


def test_a_query_set_of_pairs_of_scores_is_refused(packages):
    register("blind", Selector(largest_name, Needs(pair=True, query=True)))
    with pytest.raises(StrategyError, match="drawn by scores"):
        catalog.get("bald+blind")


def test_references_are_embeddings(packages):
    with pytest.raises(StrategyError, match=r"'near' cannot be registered.* let it need an embedding"):
        register("near", Selector(largest_name, Needs(references=True)))
    register("near", Selector(largest_name, Needs(embedding=True, references=True)))


def test_scores_beside_a_pair_have_a_reduction_and_one_value_a_voxel(packages):
    register("both", Selector(largest_name, Needs(scores=True, pair=True)))
    recipe = catalog.get("bald+both")
    assert list(recipe.measures()) == ["scores", "target_scores", "boundary_scores", "mean_scores"]
    assert (recipe.reduction, recipe.name, catalog.get(recipe.name)) == ("mean", "bald+both", recipe)
    assert len(select_batch(recipe, pool(20), 3, RNGS)) == 3
    with pytest.raises(StrategyError, match="'class_variance', whose values are per class"):
        catalog.get("class_variance+both")


def test_parameters_of_a_package_stay_with_their_posterior(packages):
    code = (
        "from nnunet_al.strategies.catalog import get, with_parameters\n"
        "RECIPE = with_parameters(get('power_bald'), passes=20, beta=3.0)\n"
    )
    packages("pkg-mine", code, "mine")
    assert catalog.get("mine").passes == 20
    assert catalog.get("mine+localized").passes == 20
    assert (catalog.get("mine+tta").passes, catalog.get("mine", "tta").parameters["beta"]) == (8, 3.0)


def test_an_own_strategy_with_parameters_has_one_name_too(packages):
    code = (
        f"{REGISTER}from nnunet_al.strategies.recipe import Recipe\n"
        "register('half', Metric(print))\n"
        "ENTRIES = ('x', 'me', 'top_k', 'half', 'localized', 'deterministic')\n"
        "RECIPE = Recipe('', *ENTRIES, parameters={'dilation_mm': 9.0})\n"
    )
    packages("pkg-mine", code, "mine")
    assert with_parameters(catalog.get("half+localized"), dilation_mm=9.0) == catalog.get("mine")
    assert with_parameters(catalog.get("half+localized"), dilation_mm=8.0).name == "half+localized"


def test_an_own_metric_follows_its_flags(packages):
    register("spread", Metric(print, needs_samples=True, per_class=True))
    recipe = catalog.get("spread")
    assert (recipe.posterior, recipe.reduction, recipe.name) == ("mc_dropout", "class_weighted", "spread")
    assert registry.voxel_map("spread") is print
    assert catalog.get("spread+usimf").phases() == ("score", "fisher", "embed")
    with pytest.raises(StrategyError, match="per class"):
        catalog.get("spread+selective")


def test_names_are_taken_once(packages):
    register("mine", Metric(print))
    register("mine", Metric(print))
    for other in (Metric(repr), Selector(repr, Needs())):
        with pytest.raises(StrategyError, match="taken"):
            register("mine", other)
    for name in ("bald", "usimf", "mc_dropout", "class_entropy", "random"):
        with pytest.raises(StrategyError, match="taken"):
            register(name, Metric(repr))
    with pytest.raises(StrategyError, match="letters"):
        register("a+b", Metric(repr))


def nth(names_N, budget, start):
    order_N = order_by_name(names_N)[start:][:budget]
    return Selection(order_N, np.zeros(len(order_N)))


def test_an_own_selector_has_parameters_and_is_a_strategy_where_it_needs_no_scores(packages):
    register("nth", Selector(nth, Needs(), "the names in order", parameters={"start": count(2, "the first one")}))
    recipe = catalog.get("nth")
    assert (recipe.phases(), recipe.summary) == ((), "Selects the names in order.")
    assert "start" in listing.explain("nth")
    candidates = pool(20)
    for start, made in ((2, recipe), (5, with_parameters(recipe, start=5))):
        chosen = [candidates.names_N[index] for index in select_batch(made, candidates, 3, RNGS).indices_B]
        assert chosen == sorted(candidates.names_N)[start : start + 3]
    with pytest.raises(StrategyError, match="whole number"):
        with_parameters(recipe, start=0)


def test_a_selector_that_takes_what_it_does_not_need_is_refused(packages):
    def odd(names_N, scores_N, budget):
        raise NotImplementedError

    with pytest.raises(
        StrategyError, match=r"function odd takes 'scores_N'.* fills names_N, cases_N.* need more"
    ) as caught:
        register("odd", Selector(odd, Needs()))
    assert "\n" not in str(caught.value)
