"""Spellings ``BASE[+ADDON...]``: from a spelling to a recipe, and from a recipe to its one canonical spelling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from nnunet_al.errors import StrategyError
from nnunet_al.strategies import registry
from nnunet_al.strategies.compatibility import alike, checked, known_parameters
from nnunet_al.strategies.ingredients import EMBEDDINGS, OF_KIND, POSTERIORS, parameters_of
from nnunet_al.strategies.kinds import SCORE
from nnunet_al.strategies.metrics import CLASS_SCORES, METRIC_ALIASES, METRICS
from nnunet_al.strategies.recipe import Recipe
from nnunet_al.strategies.selectors import SELECTORS

# in the order in which a canonical spelling has them
KINDS = ("reduction", "weighting", "posterior", "noise", "selector")


@dataclass(frozen=True)
class Addon:
    """One part of a spelling: its kind, and the ingredient and embedding that it puts into the recipe."""

    kind: str
    value: str
    embedding: str | None = None


def _addons() -> dict[str, Addon]:
    # without a selector, the last of the kinds, and without "none", which is no add-on
    addons = {name: Addon(kind, name) for kind in KINDS[:-1] for name in OF_KIND[kind] if name != "none"}
    scored = [name for name, selector in SELECTORS.items() if selector.needs.metric and name != "flqmi"]
    addons |= {name: Addon("selector", name, next(iter(SELECTORS[name].embeddings), None)) for name in scored}
    # in the paper the two embeddings of FLQMI have separate names
    addons["usimc"] = Addon("selector", "flqmi", "bottleneck_gradient")
    addons["usimf"] = Addon("selector", "flqmi", "fisher")
    return addons


ADDONS: Mapping[str, Addon] = MappingProxyType(_addons())
assert not set(ADDONS) & set(EMBEDDINGS)
registry.set_built_in((*ADDONS, *METRICS, *METRIC_ALIASES, *CLASS_SCORES, *SELECTORS, *POSTERIORS, *EMBEDDINGS))


def alone(name: str) -> Recipe | None:
    """Return the recipe of a metric alone, which selects the highest scores, or of a selector that needs no scores.

    It has the ingredient's default posterior, and reduction or embedding. None if there is no such ingredient.
    """
    metric, selector = registry.metric(name), registry.selector(name)
    if metric is not None:
        recipe = Recipe(name, "", metric.paper, "top_k", name, metric.reduction, metric.posterior)
    elif selector is not None and not selector.needs.metric:
        posterior = "deterministic" if selector.needs.model else "none"
        embedding = next(iter(selector.embeddings or EMBEDDINGS)) if selector.needs.embedding else None
        recipe = Recipe(name, "", selector.paper, name, posterior=posterior, embedding=embedding)
    else:
        return None
    return described(checked(recipe), name)


def compose(spelling: str, find_base: Callable[[str], Recipe], posterior: str | None = None) -> tuple[Recipe, Recipe]:
    """Return the recipe of a spelling, still under that name, and the recipe of its base.

    Parameters
    ----------
    spelling : str
        ``BASE[+ADDON...]``, add-ons in any order, at most one of each kind.
    find_base : callable
        from a name to its recipe; raises StrategyError if there is none.
    posterior : str, optional
        a further add-on, as ``-posterior`` gives it; it may repeat one of the spelling.

    Raises StrategyError if a part does not exist, or is incompatible with the others.
    """
    first, *names = spelling.split("+")
    if first in ADDONS and first not in {*METRICS, *METRIC_ALIASES} and not _is_base(first, find_base):
        raise StrategyError(
            f"The spelling '{spelling}' starts with the add-on '{first}': start with a metric or a strategy, for "
            f"example bald+{first}."
        )
    base = find_base(first)
    if posterior is not None and posterior not in POSTERIORS:
        raise StrategyError(f"There is no posterior '{posterior}': {alike(posterior, list(POSTERIORS)[1:])}")
    if posterior is not None and posterior not in names:
        names.append(posterior)
    chosen: dict[str, tuple[str, Addon]] = {}
    for name in names:
        addon = _addon(spelling, name)
        if addon.kind in chosen:
            raise StrategyError(
                f"The spelling '{spelling}' has two add-ons of the kind {addon.kind}, '{chosen[addon.kind][0]}' and "
                f"'{name}': leave out one of them."
            )
        chosen[addon.kind] = (name, addon)
    return _combine(base, spelling, chosen), base


def spell(recipe: Recipe) -> str | None:
    """Return the canonical spelling from the metric on; None if the recipe has no metric or no such add-on."""
    if recipe.metric is None:
        return None
    parts = [recipe.metric]
    for kind in KINDS:
        if getattr(recipe, kind) == _default(recipe, kind):
            continue
        name = _addon_name(recipe, kind)
        if name is None:
            return None
        parts.append(name)
    return "+".join(parts)


def spell_from(base: Recipe, recipe: Recipe) -> str:
    """Return the canonical spelling of a recipe that extends a base with changed parameters."""
    changed = [kind for kind in KINDS if getattr(base, kind) != getattr(recipe, kind)]
    return "+".join([base.name, *(str(_addon_name(recipe, kind)) for kind in changed)])


def presets(recipe: Recipe) -> dict[str, Any]:
    """Return the parameters that are not at the defaults of the recipe's ingredients."""
    known = known_parameters(recipe.ingredients)
    return {name: value for name, value in recipe.parameters.items() if value != known[name].default}


def same(one: Recipe, other: Recipe) -> bool:
    """Return whether two recipes differ at most in name, summary and paper."""
    return replace(one, name="", summary="", paper="") == replace(other, name="", summary="", paper="")


def described(recipe: Recipe, name: str) -> Recipe:
    """Return the recipe under a name, with a summary and the papers of its ingredients.

    The summary is one sentence: the selected regions, how their score is computed, and by which noise and embedding.
    """
    metric = None if recipe.metric is None else registry.metric(recipe.metric)
    selector = registry.selector(recipe.selector)
    assert selector is not None
    known = {kind: of[value] for kind, of in OF_KIND.items() if (value := getattr(recipe, kind)) is not None}
    summary = f"Selects {selector.phrase}"
    if metric is not None:
        summary += "" if SCORE in selector.phrase else f" by the {SCORE}"
        steps = [f"estimated from {known['posterior'].phrase}"]
        steps += [known[kind].phrase for kind in ("reduction", "weighting") if kind in known]
        summary = f"{summary.replace(SCORE, metric.phrase)}, {_listed(steps)}"
    summary += f", after {known['noise'].phrase}" if "noise" in known else ""
    summary += f"; regions are compared by {known['embedding'].phrase}." if "embedding" in known else "."
    all_papers = [*([metric.paper] if metric else []), *(part.paper for part in known.values()), selector.paper]
    papers = dict.fromkeys(paper for paper in all_papers if paper != "-")
    return replace(recipe, name=name, summary=summary, paper="; ".join(papers) or "-")


def _listed(parts: list[str]) -> str:
    """Return "a", "a and b" or "a, b, and c"."""
    return " and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])}, and {parts[-1]}"


def _is_base(name: str, find_base: Callable[[str], Recipe]) -> bool:
    try:
        find_base(name)
    except StrategyError:
        return False
    return True


def _addon(spelling: str, name: str) -> Addon:
    if name in ADDONS:
        return ADDONS[name]
    if name in METRICS or name in METRIC_ALIASES:
        raise StrategyError(
            f"The spelling '{spelling}' adds the metric '{name}', and a metric comes first: write {name}+ADDON, once."
        )
    if name in SELECTORS:
        raise StrategyError(
            f"The spelling '{spelling}' adds '{name}', which takes no scores: use it alone, or another add-on."
        )
    if registry.selector(name) is not None:
        return Addon("selector", name)
    raise StrategyError(
        f"The spelling '{spelling}' has the add-on '{name}', which is not there: "
        f"{alike(name, [*ADDONS, *registry.selectors_of_packages()])}"
    )


def _combine(base: Recipe, spelling: str, chosen: Mapping[str, tuple[str, Addon]]) -> Recipe:
    if not chosen:
        return base
    if base.metric is None:
        name = next(iter(chosen.values()))[0]
        raise StrategyError(
            f"The strategy '{base.name}' has no scores, so '{name}' cannot be added to it: start with a metric, for "
            f"example bald+{name}."
        )
    content: dict[str, Any] = {kind: getattr(base, kind) for kind in KINDS} | {"embedding": base.embedding}
    for kind, (name, addon) in chosen.items():
        present = _addon_name(base, kind)
        is_present = addon.value == content[kind] and (kind != "selector" or addon.embedding == base.embedding)
        if not is_present and getattr(base, kind) != _default(base, kind):
            raise StrategyError(
                f"The strategy '{base.name}' has the {kind} '{present or content[kind]}' already, so '{name}' cannot "
                f"be added to it: start with its metric {base.metric} instead."
            )
        content[kind] = addon.value
        if kind == "selector":
            content["embedding"] = addon.embedding
    # a selector with built-in reductions replaces the default one
    selector = registry.selector(content["selector"])
    assert selector is not None
    if "reduction" not in chosen and selector.needs.reduces and content["reduction"] == _default(base, "reduction"):
        content["reduction"] = None
    made = checked(replace(base, name=spelling, parameters={}, **content))
    # the number of samples, for example, has another meaning for another posterior
    gone = {name for part in set(base.ingredients) - set(made.ingredients) for name in parameters_of(part)}
    kept = {name: value for name, value in presets(base).items() if name in made.parameters and name not in gone}
    return checked(replace(made, parameters=kept))


def _default(recipe: Recipe, kind: str) -> str | None:
    metric = registry.metric(str(recipe.metric))
    assert metric is not None
    if kind == "reduction":
        return None if recipe.needs.reduces else metric.reduction
    return {"weighting": None, "posterior": metric.posterior, "noise": None, "selector": "top_k"}[kind]


def _addon_name(recipe: Recipe, kind: str) -> str | None:
    embedding = recipe.embedding if kind == "selector" else None
    wanted = Addon(kind, str(getattr(recipe, kind)), embedding)
    for name, addon in ADDONS.items():
        if addon == wanted:
            return name
    return recipe.selector if kind == "selector" and embedding is None and recipe.selector not in SELECTORS else None
