"""Strategies, metrics and selectors that other packages bring along, by the entry points ``nnunet_al.strategies``.

A package's entry point loads to a ``Recipe``; its module calls ``register_metric`` and ``register_selector`` before,
where the recipe is made of ingredients of its own. Packages are loaded once, when a name is asked for that is not
built in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from nnunet_al.errors import StrategyError
from nnunet_al.strategies.ingredients import (
    CLASS_SCORES,
    EMBEDDINGS,
    METRIC_ALIASES,
    METRICS,
    POSTERIORS,
    SELECTORS,
    Metric,
    Needs,
    Selector,
)

if TYPE_CHECKING:
    from nnunet_al.strategies.recipe import Recipe

GROUP = "nnunet_al.strategies"
_NAME = re.compile(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*")  # part of a spelling and of a folder's name


@dataclass
class _Registry:
    metrics: dict[str, tuple[Metric, Callable[..., Any]]] = field(default_factory=dict)
    selectors: dict[str, tuple[Selector, Callable[..., Any]]] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    loaded: bool = False


_REGISTRY = _Registry()


def register_metric(
    name: str, function: Callable[..., Any], needs_samples: bool = False, per_class: bool = False, phrase: str = ""
) -> None:
    """Make a voxel map known, so that recipes and spellings can name it.

    Parameters
    ----------
    name : str
        letters, digits and single underscores; not taken yet.
    function : callable
        ``function(probs_T_B_C_xyz, exclusive) -> values_B_xyz`` (``B_F_xyz`` where ``per_class``), float tensors.
        The score must not be negative where it is used with power noise or a query set.
    needs_samples, per_class : bool
        as ``ingredients.Metric`` has them.
    phrase : str
        what it measures, for the list of strategies.

    Raises
    ------
    StrategyError
        if the name is taken or no name.
    """
    _check_name(name, "metric", _REGISTRY.metrics.get(name, (None, None))[1], function)
    _REGISTRY.metrics[name] = (Metric(needs_samples, per_class, phrase or name), function)


def register_selector(name: str, function: Callable[..., Any], needs: Needs, phrase: str = "") -> None:
    """Make a selector known, so that recipes and spellings can name it.

    Parameters
    ----------
    name : str
        letters, digits and single underscores; not taken yet.
    function : callable
        ``function(recipe, candidates, budget, rngs) -> Selection`` of exactly min(budget, N) regions; chance only from
        ``rngs("select")``.
    needs : Needs
        what it works on; these fields of ``candidates`` are filled.
    phrase : str
        what it asks for, for the list of strategies.

    Raises
    ------
    StrategyError
        if the name is taken or no name, or the needs do not go together.
    """
    if needs.references and not needs.embedding:
        raise StrategyError(
            f"The selector '{name}' cannot be registered, because it needs references and no embedding, and references "
            "are embeddings of the annotated regions: let it need an embedding too."
        )
    _check_name(name, "selector", _REGISTRY.selectors.get(name, (None, None))[1], function)
    _REGISTRY.selectors[name] = (Selector(needs, phrase or name), function)


def metric(name: str) -> Metric | None:
    """Return what is known of a metric, built in or registered; None where there is none of that name."""
    if name in METRICS:
        return METRICS[name]
    found = _find("metrics", name)
    return found[0] if found else None


def selector(name: str) -> Selector | None:
    """Return what is known of a selector, built in or registered; None where there is none of that name."""
    if name in SELECTORS:
        return SELECTORS[name]
    found = _find("selectors", name)
    return found[0] if found else None


def voxel_map(name: str) -> Callable[..., Any] | None:
    """Return the function of a registered metric, for the scoring pass; None for all others."""
    if name in METRICS or name in METRIC_ALIASES or name in CLASS_SCORES:
        return None
    found = _find("metrics", name)
    return found[1] if found else None


def select_function(name: str) -> Callable[..., Any] | None:
    """Return the function of a registered selector; None for all others."""
    found = None if name in SELECTORS else _find("selectors", name)
    return found[1] if found else None


def recipes() -> dict[str, Recipe]:
    """Return the recipes of all installed packages that load, by name; sorted."""
    _load()
    return dict(sorted(_REGISTRY.recipes.items()))


def metrics() -> tuple[str, ...]:
    """Return the names of all registered metrics, sorted."""
    _load()
    return tuple(sorted(_REGISTRY.metrics))


def selectors() -> tuple[str, ...]:
    """Return the names of all registered selectors, sorted."""
    _load()
    return tuple(sorted(_REGISTRY.selectors))


def problems() -> dict[str, str]:
    """Return why entry points are left out: name -> one sentence that names the package; sorted."""
    _load()
    return dict(sorted(_REGISTRY.problems.items()))


def problems_sentence() -> str:
    """Return all problems on one line, empty where there is none, to go into brackets."""
    return "; ".join(sentence.rstrip(".") for sentence in problems().values())


def _find(kind: str, name: str) -> tuple[Any, Callable[..., Any]] | None:
    if name not in getattr(_REGISTRY, kind):
        _load()
    found: tuple[Any, Callable[..., Any]] | None = getattr(_REGISTRY, kind).get(name)
    return found


def _load() -> None:
    """Load all entry points, once; a package that asks for a name while it is loaded finds what is there so far."""
    if _REGISTRY.loaded:
        return
    _REGISTRY.loaded = True
    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, _package(entry))):
        found.setdefault(entry.name, []).append(entry)
    for name, entries in found.items():
        if len({(entry.value, _package(entry)) for entry in entries}) > 1:
            packages = " and ".join(f"'{_package(entry)}'" for entry in entries)
            _REGISTRY.problems[name] = f"The packages {packages} both bring a strategy '{name}': uninstall one of them."
            continue
        try:
            with _undone_on_failure():
                _REGISTRY.recipes[name] = _recipe(entries[0])
        except Exception as error:  # whatever a package of others does, it must not stop the strategies of others
            reason = " ".join(str(error).split()) or type(error).__name__
            _REGISTRY.problems[name] = (
                f"The strategy '{name}' of the package '{_package(entries[0])}' does not load: {reason.rstrip('.')}."
            )


def _recipe(entry: EntryPoint) -> Recipe:
    from nnunet_al.strategies.recipe import Recipe

    if _is_built_in(entry.name):
        raise StrategyError("this name is taken by a built-in strategy or add-on, so it needs another one")
    if not _NAME.fullmatch(entry.name):
        raise StrategyError("a name has letters, digits and single underscores")
    loaded = entry.load()
    if not isinstance(loaded, Recipe):
        raise StrategyError(f"{entry.value} is no Recipe")
    return replace(loaded, name=entry.name)


@contextmanager
def _undone_on_failure() -> Iterator[None]:
    metrics_before, selectors_before = dict(_REGISTRY.metrics), dict(_REGISTRY.selectors)
    try:
        yield
    except BaseException:
        _REGISTRY.metrics, _REGISTRY.selectors = metrics_before, selectors_before
        raise


def _check_name(name: str, kind: str, present: Callable[..., Any] | None, function: Callable[..., Any]) -> None:
    if not _NAME.fullmatch(name):
        raise StrategyError(f"The {kind} '{name}' cannot be registered: use letters, digits and single underscores.")
    if present is function:
        return
    if name in _REGISTRY.metrics or name in _REGISTRY.selectors or _is_built_in(name):
        raise StrategyError(f"The {kind} '{name}' cannot be registered, because the name is taken: choose another one.")


def _is_built_in(name: str) -> bool:
    from nnunet_al.strategies.catalog import ALIASES, CATALOG  # both are made of recipes, which ask this module
    from nnunet_al.strategies.grammar import ADDONS

    known = (CATALOG, ALIASES, ADDONS, METRICS, METRIC_ALIASES, CLASS_SCORES, SELECTORS, EMBEDDINGS, POSTERIORS)
    return any(name in names for names in known)


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value.partition(":")[0]
