"""The registry of metrics and selectors, for the built-in ones and those of other packages.

The function of each is a callable, or ``"module:name"``, which is imported when it is needed, so that listing
strategies does not import torch::

    register("gini", Metric(gini, "Gini impurity", "Gini 1912"))
    register("farthest", Selector(farthest, Needs(embedding=True), "the regions that lie farthest apart"))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from nnunet_al.errors import StrategyError
from nnunet_al.strategies.kinds import Metric, Selector, loaded

NAME = re.compile(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*")  # part of a spelling and of a folder's name


@dataclass
class _Registry:
    metrics: dict[str, Metric] = field(default_factory=dict)
    selectors: dict[str, Selector] = field(default_factory=dict)
    built_in: frozenset[str] = frozenset()
    problems: dict[str, str] = field(default_factory=dict)
    load: Callable[[], object] = lambda: None


_REGISTRY = _Registry()


def register(name: str, ingredient: Metric | Selector) -> None:
    """Register a metric or a selector, so that recipes and spellings can name it.

    The name has letters, digits and single underscores, and is not taken, except by an equal ingredient.

    Raises StrategyError if the name is taken or invalid, or the selector's function has an argument that its needs do
    not fill.
    """
    kind = type(ingredient).__name__.lower()
    ingredient = ingredient if ingredient.phrase else replace(ingredient, phrase=f"{kind} '{name}'")
    if not NAME.fullmatch(name):
        raise StrategyError(f"The {kind} '{name}' cannot be registered: use letters, digits and single underscores.")
    present = _REGISTRY.metrics.get(name) or _REGISTRY.selectors.get(name)
    if name in _REGISTRY.built_in or present not in (None, ingredient):
        raise StrategyError(f"The {kind} '{name}' cannot be registered, because the name is taken: choose another one.")
    if isinstance(ingredient, Metric):
        _REGISTRY.metrics[name] = ingredient
        return
    if ingredient.needs.references and not ingredient.needs.embedding:
        raise StrategyError(
            f"The selector '{name}' cannot be registered, because it needs references and no embedding, and references "
            "are embeddings of the annotated regions: let it need an embedding too."
        )
    if not isinstance(ingredient.function, str):
        ingredient.arguments()
    _REGISTRY.selectors[name] = ingredient


def metric(name: str) -> Metric | None:
    """Return a metric that recipes can name; None if there is none of that name."""
    _load_unless(name in _REGISTRY.metrics)
    found = _REGISTRY.metrics.get(name)
    return found if found is not None and found.listed else None


def selector(name: str) -> Selector | None:
    """Return a selector; None if there is none of that name."""
    _load_unless(name in _REGISTRY.selectors)
    return _REGISTRY.selectors.get(name)


def voxel_map(name: str) -> Callable[..., Any] | None:
    """Return the function of a metric, for the scoring pass; None if the model itself predicts the score."""
    _load_unless(name in _REGISTRY.metrics)
    function = _REGISTRY.metrics[name].function
    return None if function is None else loaded(function)


def metrics_of_packages() -> tuple[str, ...]:
    """Return the names of the metrics that are not built in, sorted."""
    _REGISTRY.load()
    return tuple(sorted(set(_REGISTRY.metrics) - _REGISTRY.built_in))


def selectors_of_packages() -> tuple[str, ...]:
    """Return the names of the selectors that are not built in, sorted."""
    _REGISTRY.load()
    return tuple(sorted(set(_REGISTRY.selectors) - _REGISTRY.built_in))


def is_built_in(name: str) -> bool:
    """Return whether a name belongs to nnunet-al: of an ingredient, a strategy or an alias."""
    return name in _REGISTRY.built_in


def set_built_in(names: Iterable[str]) -> None:
    """Reserve these names, so that no package can take them."""
    _REGISTRY.built_in |= set(names)


def set_loader(load: Callable[[], object]) -> None:
    """Set the function that loads installed packages, once; it is called for every unknown name."""
    _REGISTRY.load = load


def load_packages() -> None:
    """Load the installed packages with strategies, unless that was done before."""
    _REGISTRY.load()


def note_problem(name: str, sentence: str) -> None:
    """Record why a strategy of another package is unavailable."""
    _REGISTRY.problems[name] = sentence


def problems() -> dict[str, str]:
    """Return why strategies of other packages are unavailable: name -> a sentence with the package; sorted."""
    _REGISTRY.load()
    return dict(sorted(_REGISTRY.problems.items()))


@contextmanager
def undone_on_failure() -> Iterator[None]:
    """Undo the registrations of the block if it raises an exception."""
    metrics, selectors = dict(_REGISTRY.metrics), dict(_REGISTRY.selectors)
    try:
        yield
    except BaseException:
        _REGISTRY.metrics, _REGISTRY.selectors = metrics, selectors
        raise


def _load_unless(known: bool) -> None:
    if not known:
        _REGISTRY.load()
