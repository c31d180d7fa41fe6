"""Every strategy by name: its recipe and its paper. A new one is an entry in ``catalog.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from nnunet_al.errors import StrategyError
from nnunet_al.strategies import registry
from nnunet_al.strategies.compatibility import alike, checked
from nnunet_al.strategies.grammar import alone, compose, described, presets, same, spell, spell_from
from nnunet_al.strategies.metrics import METRIC_ALIASES
from nnunet_al.strategies.recipe import Recipe


def _ingredient(name: str) -> Recipe:
    recipe = alone(name)
    assert recipe is not None, name
    return recipe


def _entry(name: str, spelling: str, summary: str, paper: str, parameters: Mapping[str, Any] | None = None) -> Recipe:
    recipe, _ = compose(spelling, _ingredient)
    recipe = replace(recipe, name=name, summary=summary, paper=paper)
    return checked(replace(recipe, parameters={**recipe.parameters, **(parameters or {})}))


_ENTRIES = json.loads(files(__package__).joinpath("catalog.json").read_text(encoding="utf-8"))
CATALOG: Mapping[str, Recipe] = MappingProxyType({name: _entry(name, **entry) for name, entry in _ENTRIES.items()})
ALIASES: Mapping[str, str] = MappingProxyType({"mean_entropy": "entropy", **METRIC_ALIASES})
registry.set_built_in((*CATALOG, *ALIASES))
_OF_PACKAGES: dict[str, Recipe] = {}


def add(recipe: Recipe) -> None:
    """Add a strategy of another package."""
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

    Raises StrategyError if a part of the spelling does not exist (the message suggests similar names), or is
    incompatible with the others.
    """
    recipe, base = compose(spelling, find_base, posterior)
    return named(recipe, base)


def find_base(name: str) -> Recipe:
    """Return the recipe of a name without add-ons: of the catalog, of an installed package, or of an ingredient.

    Raises StrategyError if there is none, or its package does not load.
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

    That is the name in the catalog, or in a package if an ingredient is from there; else the canonical spelling from
    the metric; else, if that would lose parameters, the name of the base with the add-ons. So a package's name for
    built-in ingredients at their defaults is another spelling of them.
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

    ClaSP PE is class balance and noise with a schedule. Only names that imply parameters are considered, so that a
    strategy with changed parameters keeps its name.

    Raises StrategyError if the strategy has no such parameter, or the value is not allowed.
    """
    changed = checked(replace(recipe, parameters={**recipe.parameters, **overrides}))
    return next((entry for entry in _entries(changed) if presets(entry) and same(entry, changed)), changed)


def _entries(recipe: Recipe) -> tuple[Recipe, ...]:
    """Return the strategies that may name a recipe: those of packages only if an ingredient is from one."""
    built_in = all(name is None or registry.is_built_in(name) for name in (recipe.metric, recipe.selector))
    return (*CATALOG.values(), *(() if built_in else of_packages().values()))


def other_names(recipe: Recipe) -> list[str]:
    """Return other spellings that lead to the recipe: aliases, and the one from its metric on."""
    spelling = spell(recipe)
    fits = spelling not in (None, recipe.name) and same(compose(str(spelling), find_base)[0], recipe)
    aliases = [alias for alias, name in ALIASES.items() if name == recipe.name]
    aliases += [name for name, entry in of_packages().items() if name != recipe.name and same(entry, recipe)]
    return [*aliases, str(spelling)] if fits else aliases
