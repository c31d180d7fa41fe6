"""Every strategy by name: its recipe and its paper. A new one is an entry of a few lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from types import MappingProxyType
from typing import Any

from nnunet_al.errors import StrategyError
from nnunet_al.strategies import own
from nnunet_al.strategies.fitting import alike
from nnunet_al.strategies.grammar import (
    ADDONS,
    KINDS,
    compose,
    described,
    metric_recipe,
    presets,
    same,
    spell,
    spell_from,
)
from nnunet_al.strategies.ingredients import METRIC_ALIASES, METRICS, SELECTORS
from nnunet_al.strategies.recipe import Recipe

_USIM = "Föllmer et al. 2024, MIDL"
_STOCHASTIC = "Gaillochet et al. 2023, Medical Image Analysis"
_NNACTIVE = "Lüth et al. 2025, nnActive"
_CLASP = "Lüth, Traub et al. 2026, TMLR"


def _spelled(name: str, spelling: str, summary: str, paper: str, **parameters: Any) -> Recipe:
    recipe, _ = compose(spelling, metric_recipe)
    return replace(recipe, name=name, summary=summary, paper=paper, parameters={**recipe.parameters, **parameters})


_RECIPES = (
    Recipe("random", "uniform draw, the baseline; asks no model", "-", selector="random"),
    Recipe(
        "random_foreground",
        "a share of the batch from regions with predicted foreground, the rest uniform",
        _NNACTIVE,
        selector="random_foreground",
        posterior="deterministic",
    ),
    _spelled("entropy", "entropy", "largest mean entropy of one prediction", "Shannon 1948"),
    _spelled(
        "least_confidence",
        "least_confidence",
        "largest mean lack of confidence in the best class",
        "Lewis and Gale 1994, SIGIR",
    ),
    _spelled(
        "margin",
        "margin",
        "smallest mean margin between the two best classes",
        "Scheffer, Decomain and Wrobel 2001, IDA",
    ),
    _spelled(
        "localized_entropy",
        "entropy+localized",
        "largest entropy, averaged over the predicted foreground and its rim",
        "Danaee et al. 2026, MIDL",
    ),
    _spelled(
        "weighted_localized_entropy",
        "entropy+localized+fair",
        "largest localized entropy, groups of cases that the model segments worse weighted up",
        "Danaee et al. 2026, MIDL, eq. 2",
    ),
    _spelled(
        "mc_dropout",
        "mc_dropout",
        "largest mean entropy of the averaged dropout predictions",
        "Gal and Ghahramani 2016, ICML",
    ),
    _spelled(
        "mean_std",
        "mean_std",
        "largest mean standard deviation of dropout predictions, averaged over classes",
        "Kendall et al. 2017, BMVC",
    ),
    _spelled(
        "bald",
        "bald",
        "largest mean mutual information of prediction and model (Jensen-Shannon divergence of the samples)",
        "Houlsby et al. 2011; Gal et al. 2017, ICML",
    ),
    _spelled(
        "class_variance", "class_variance", "largest variance of dropout predictions, rare classes weighted up", _USIM
    ),
    _spelled("tta", "bald+tta", "largest mean divergence of predictions of noised and rotated images", _STOCHASTIC),
    _spelled(
        "ensemble",
        "bald+ensemble",
        "largest mean disagreement of several models",
        "Lakshminarayanan et al. 2017, NeurIPS; Beluch et al. 2018, CVPR",
    ),
    _spelled(
        "learning_loss", "learning_loss", "largest loss that the model predicts of itself", "Yoo and Kweon 2019, CVPR"
    ),
    _spelled(
        "stochastic_batches",
        "entropy+stochastic_batches",
        "of many random batches the one with the largest mean entropy",
        _STOCHASTIC,
    ),
    _spelled(
        "selective",
        "entropy+selective",
        "half by the entropy of likely foreground, half by that of predicted boundaries",
        "Ma et al. 2024, ICASSP",
    ),
    Recipe(
        "core_set",
        "a batch that leaves no region far from an annotated one, by bottleneck features",
        "Sener and Savarese 2018, ICLR",
        selector="core_set",
        posterior="deterministic",
        embedding="features",
    ),
    Recipe(
        "badge",
        "large gradients of the decoder's last convolution that differ from each other",
        "Ash et al. 2020, ICLR; Aklilu and Yeung 2022, MLHC",
        selector="badge",
        posterior="deterministic",
        embedding="decoder_gradient",
    ),
    _spelled(
        "usimc",
        "class_variance+usimc",
        "covers regions drawn by class-weighted variance, by the cosine of bottleneck gradients",
        _USIM,
    ),
    _spelled(
        "usimf",
        "class_variance+usimf",
        "covers regions drawn by class-weighted variance, by the Fisher kernel of all gradients",
        _USIM,
    ),
    _spelled(
        "query_sampling",
        "class_variance+query_sampling",
        "a uniform draw from the query set of USIM",
        f"{_USIM}, appendix E",
    ),
    _spelled(
        "power_bald",
        "bald+power",
        "drawn in proportion to a power of the mutual information",
        "Kirsch et al. 2023, TMLR",
    ),
    _spelled(
        "softrank_bald",
        "bald+softrank",
        "drawn in proportion to 1 / rank of the mutual information",
        "Kirsch et al. 2023, TMLR",
    ),
    _spelled(
        "kmeans_bald",
        "bald+kmeans",
        "of the largest mutual informations in each case those whose features differ",
        _NNACTIVE,
    ),
    _spelled(
        "class_balanced_entropy",
        "mc_dropout+class_balanced",
        "a share of the batch split evenly over the classes by their entropies, the rest by entropy",
        _CLASP,
    ),
    _spelled(
        "clasp_pe",
        "mc_dropout+class_balanced+power",
        "class-balanced entropy with power noise that fades over the planned rounds",
        _CLASP,
        beta_end=100.0,
    ),
)

CATALOG: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in _RECIPES})
ALIASES: Mapping[str, str] = MappingProxyType({"mean_entropy": "entropy", **METRIC_ALIASES})


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
    """Return the recipe of a name without add-ons: of the catalog, of an installed package, or of a metric.

    Raises
    ------
    StrategyError
        if there is none, or its package does not load.
    """
    name = ALIASES.get(name, name)
    if name in CATALOG:
        return CATALOG[name]
    if name in own.recipes():
        return own.recipes()[name]
    if own.metric(name) is not None:
        return metric_recipe(name)
    if name in own.problems():
        raise StrategyError(own.problems()[name])
    known = [*CATALOG, *ALIASES, *own.recipes(), *own.metrics()]
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


def settled(recipe: Recipe) -> Recipe:
    """Return the strategy that a recipe became by its parameters: ClaSP PE is class balance and noise with a schedule.

    Only names that stand for parameters are looked for, so that a strategy whose parameters were changed stays itself.
    """
    return next((entry for entry in _entries(recipe) if presets(entry) and same(entry, recipe)), recipe)


def _entries(recipe: Recipe) -> tuple[Recipe, ...]:
    """Return what may give a recipe its name: packages only where an ingredient is from one."""
    is_own = recipe.metric not in {None, *METRICS} or recipe.selector not in SELECTORS
    return (*CATALOG.values(), *(own.recipes().values() if is_own else ()))


def other_names(recipe: Recipe) -> list[str]:
    """Return other spellings that lead to the recipe: aliases, and the one from its metric on."""
    spelling = spell(recipe)
    fits = spelling not in (None, recipe.name) and same(compose(str(spelling), find_base)[0], recipe)
    aliases = [alias for alias, name in ALIASES.items() if name == recipe.name]
    aliases += [name for name, entry in own.recipes().items() if name != recipe.name and same(entry, recipe)]
    return [*aliases, str(spelling)] if fits else aliases


def spellings() -> Iterator[str]:
    """Yield every way to put a metric together with at most one add-on of each kind, sensible or not."""
    by_kind = [["", *(f"+{name}" for name, addon in ADDONS.items() if addon.kind == kind)] for kind in KINDS]
    for metric, *addons in product(METRICS, *by_kind):
        yield metric + "".join(addons)


def combinations() -> Iterator[Recipe]:
    """Yield every sensible combination of built-in ingredients once, those of the catalog among them."""
    seen: set[str] = set()
    for spelling in spellings():
        try:
            recipe = get(spelling)
        except StrategyError:
            continue
        if recipe.name not in seen:
            seen.add(recipe.name)
            yield recipe
