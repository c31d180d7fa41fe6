"""Every strategy by name: its recipe and its paper. A new one is an entry of a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from nnunet_al.errors import StrategyError
from nnunet_al.strategies import registry
from nnunet_al.strategies.compatibility import alike, checked
from nnunet_al.strategies.grammar import (
    alone,
    compose,
    described,
    presets,
    same,
    spell,
    spell_from,
)
from nnunet_al.strategies.metrics import METRIC_ALIASES
from nnunet_al.strategies.recipe import Recipe

_USIM = "Föllmer et al. 2024, MIDL"
_STOCHASTIC = "Gaillochet et al. 2023, Medical Image Analysis"
_NNACTIVE = "Lüth et al. 2025, nnActive"
_CLASP = "Lüth, Traub et al. 2026, TMLR"


def _ingredient(name: str) -> Recipe:
    recipe = alone(name)
    assert recipe is not None, name
    return recipe


def _entry(name: str, summary: str, paper: str, spelling: str = "", **parameters: Any) -> Recipe:
    recipe, _ = compose(spelling or name, _ingredient)
    recipe = replace(recipe, name=name, summary=summary, paper=paper)
    return checked(replace(recipe, parameters={**recipe.parameters, **parameters}))


_RECIPES = (
    _entry("random", "Selects regions uniformly at random, without a model.", "-"),
    _entry(
        "random_foreground",
        "Selects a share of the batch from regions with predicted foreground, the rest uniformly at random.",
        _NNACTIVE,
    ),
    _entry("entropy", "Selects regions with the highest mean predictive entropy of one forward pass.", "Shannon 1948"),
    _entry(
        "least_confidence",
        "Selects regions with the lowest mean probability of the most likely class.",
        "Lewis and Gale 1994, SIGIR",
    ),
    _entry(
        "margin",
        "Selects regions with the smallest mean margin between the two most likely classes.",
        "Scheffer, Decomain and Wrobel 2001, IDA",
    ),
    _entry(
        "localized_entropy",
        "Selects regions with the highest predictive entropy, averaged over the predicted foreground and its rim.",
        "Danaee et al. 2026, MIDL",
        "entropy+localized",
    ),
    _entry(
        "weighted_localized_entropy",
        "Selects regions with the highest localized entropy, weighted up for groups that the model segments less well.",
        "Danaee et al. 2026, MIDL, eq. 2",
        "entropy+localized+fair",
    ),
    _entry(
        "mc_dropout",
        "Selects regions with the highest mean predictive entropy of Monte Carlo dropout samples.",
        "Gal and Ghahramani 2016, ICML",
    ),
    _entry(
        "mean_std",
        "Selects regions with the highest mean standard deviation of Monte Carlo dropout samples.",
        "Kendall et al. 2017, BMVC",
    ),
    _entry(
        "bald",
        "Selects regions with the highest mean mutual information (BALD) of Monte Carlo dropout samples.",
        "Houlsby et al. 2011; Gal et al. 2017, ICML",
    ),
    _entry(
        "class_variance",
        "Selects regions with the highest variance of Monte Carlo dropout samples, rare classes weighted up.",
        _USIM,
    ),
    _entry(
        "tta",
        "Selects regions with the highest mean mutual information (BALD) of test-time augmentation samples.",
        _STOCHASTIC,
        "bald+tta",
    ),
    _entry(
        "ensemble",
        "Selects regions with the highest mean mutual information (BALD) of an ensemble of models.",
        "Lakshminarayanan et al. 2017, NeurIPS; Beluch et al. 2018, CVPR",
        "bald+ensemble",
    ),
    _entry(
        "learning_loss",
        "Selects regions with the highest loss, as predicted by a module that is trained with the network.",
        "Yoo and Kweon 2019, CVPR",
    ),
    _entry(
        "stochastic_batches",
        "Selects, out of many random batches, the one with the highest mean predictive entropy.",
        _STOCHASTIC,
        "entropy+stochastic_batches",
    ),
    _entry(
        "selective",
        "Selects half of the batch by the entropy of likely foreground, half by the entropy of the predicted boundary.",
        "Ma et al. 2024, ICASSP",
        "entropy+selective",
    ),
    _entry(
        "core_set",
        "Selects regions so that the bottleneck features of every region are close to those of an annotated one.",
        "Sener and Savarese 2018, ICLR",
    ),
    _entry(
        "badge",
        "Selects regions with large and diverse gradients of the decoder's last convolution.",
        "Ash et al. 2020, ICLR; Aklilu and Yeung 2022, MLHC",
    ),
    _entry(
        "usimc",
        "Selects regions that represent those of high class-weighted variance, by the cosine of bottleneck gradients.",
        _USIM,
        "class_variance+usimc",
    ),
    _entry(
        "usimf",
        "Selects regions that represent those of high class-weighted variance, by the Fisher kernel of gradients.",
        _USIM,
        "class_variance+usimf",
    ),
    _entry(
        "query_sampling",
        "Selects regions uniformly at random from the query set of USIM.",
        f"{_USIM}, appendix E",
        "class_variance+query_sampling",
    ),
    _entry(
        "power_bald",
        "Draws regions in proportion to a power of their mean mutual information (BALD).",
        "Kirsch et al. 2023, TMLR",
        "bald+power",
    ),
    _entry(
        "softrank_bald",
        "Draws regions in inverse proportion to their rank by mean mutual information (BALD).",
        "Kirsch et al. 2023, TMLR",
        "bald+softrank",
    ),
    _entry(
        "kmeans_bald",
        "Selects regions of diverse bottleneck features among those of high mutual information (BALD) in each case.",
        _NNACTIVE,
        "bald+kmeans",
    ),
    _entry(
        "class_balanced_entropy",
        "Selects a share of the batch evenly by the entropy of each class, the rest by the predictive entropy.",
        _CLASP,
        "mc_dropout+class_balanced",
    ),
    _entry(
        "clasp_pe",
        "Selects by class-balanced predictive entropy with power noise that fades over the planned rounds.",
        _CLASP,
        "mc_dropout+class_balanced+power",
        beta_end=100.0,
    ),
)

CATALOG: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in _RECIPES})
ALIASES: Mapping[str, str] = MappingProxyType({"mean_entropy": "entropy", **METRIC_ALIASES})
registry.set_built_in((*CATALOG, *ALIASES))
_OF_PACKAGES: dict[str, Recipe] = {}


def add(recipe: Recipe) -> None:
    """Make a strategy of another package known."""
    _OF_PACKAGES[recipe.name] = recipe


def of_packages() -> dict[str, Recipe]:
    """Return the strategies of all installed packages that load, by name; sorted."""
    registry.load_packages()
    return dict(sorted(_OF_PACKAGES.items()))


def get(spelling: str, posterior: str | None = None) -> Recipe:
    """Return the recipe of a strategy, under the one name that all spellings of it share.

    Parameters
    ----------
    spelling : str
        a name of the catalog or of an installed package, or ``BASE[+ADDON...]``.
    posterior : str, optional
        where samples come from: ``"mc_dropout"``, ``"tta"``, ``"ensemble"`` or ``"deterministic"``.

    Raises
    ------
    StrategyError
        if a part of the spelling does not exist (the sentence offers what is spelled alike), or does not go with the
        others.
    """
    recipe, base = compose(spelling, find_base, posterior)
    return named(recipe, base)


def find_base(name: str) -> Recipe:
    """Return the recipe of a name without add-ons: of the catalog, of an installed package, or of an ingredient.

    Raises
    ------
    StrategyError
        if there is none, or its package does not load.
    """
    name = ALIASES.get(name, name)
    if name in CATALOG:
        return CATALOG[name]
    if name in of_packages():
        return of_packages()[name]
    recipe = alone(name)
    if recipe is not None:
        return recipe
    if name in registry.problems():
        raise StrategyError(registry.problems()[name])
    known = [*CATALOG, *ALIASES, *of_packages(), *registry.metrics_of_packages()]
    raise StrategyError(
        f"There is no strategy '{name}': {alike(name, known)} nnUNetv2_al_strategies explains all of them."
    )


def named(recipe: Recipe, base: Recipe | None = None) -> Recipe:
    """Return the recipe under its one name.

    That is the name in the catalog, or in a package where an ingredient is from there; else the canonical spelling from
    the metric; else, where that would lose parameters, the name of the base and what was added to it. So a package's
    name for built-in ingredients at their defaults is one more spelling of them.
    """
    for entry in _entries(recipe):
        if same(entry, recipe):
            return entry
    spelling = spell(recipe)
    if spelling is not None and same(compose(spelling, find_base)[0], recipe):
        return described(recipe, spelling)
    if base is not None and same(base, recipe):
        return base
    return described(recipe, spell_from(base, recipe)) if base is not None else recipe


def with_parameters(recipe: Recipe, **overrides: Any) -> Recipe:
    """Return the recipe with other parameters; it keeps its name, unless it became a strategy that has one.

    ClaSP PE is class balance and noise with a schedule. Only names that stand for parameters are looked for, so that a
    strategy whose parameters were changed stays itself.

    Raises
    ------
    StrategyError
        if the strategy has no such parameter, or the value does not do.
    """
    changed = checked(replace(recipe, parameters={**recipe.parameters, **overrides}))
    return next((entry for entry in _entries(changed) if presets(entry) and same(entry, changed)), changed)


def _entries(recipe: Recipe) -> tuple[Recipe, ...]:
    """Return what may give a recipe its name: packages only where an ingredient is from one."""
    built_in = all(name is None or registry.is_built_in(name) for name in (recipe.metric, recipe.selector))
    return (*CATALOG.values(), *(() if built_in else of_packages().values()))


def other_names(recipe: Recipe) -> list[str]:
    """Return other spellings that lead to the recipe: aliases, and the one from its metric on."""
    spelling = spell(recipe)
    fits = spelling not in (None, recipe.name) and same(compose(str(spelling), find_base)[0], recipe)
    aliases = [alias for alias, name in ALIASES.items() if name == recipe.name]
    aliases += [name for name, entry in of_packages().items() if name != recipe.name and same(entry, recipe)]
    return [*aliases, str(spelling)] if fits else aliases
