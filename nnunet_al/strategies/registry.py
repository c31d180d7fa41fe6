"""The registry of metrics and selectors: one door for the built-in ones and for those of other packages.

The function of each is a callable, or ``"module:name"``, which is imported when it is called for, so that listing
strategies loads no torch::

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


def _load_nothing() -> None:
    pass


@dataclass
class _Registry:
    metrics: dict[str, Metric] = field(default_factory=dict)
    selectors: dict[str, Selector] = field(default_factory=dict)
    built_in: frozenset[str] = frozenset()
    problems: dict[str, str] = field(default_factory=dict)
    load: Callable[[], None] = _load_nothing


_REGISTRY = _Registry()


def register(name: str, ingredient: Metric | Selector) -> None:
    """Make a metric or a selector known, so that recipes and spellings can name it.

    Parameters
    ----------
    name : str
        letters, digits and single underscores; not taken yet, except by the very same ingredient.
    ingredient : Metric or Selector
        its function, and all that others have to know about it.

    Raises
    ------
    StrategyError
        if the name is taken or no name, or the selector's function takes something that it does not need.
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
    """Return a metric that recipes can name; None where there is none of that name."""
    _load_unless(name in _REGISTRY.metrics)
    found = _REGISTRY.metrics.get(name)
    return found if found is not None and found.listed else None


def selector(name: str) -> Selector | None:
    """Return a selector; None where there is none of that name."""
    _load_unless(name in _REGISTRY.selectors)
    return _REGISTRY.selectors.get(name)


def voxel_map(name: str) -> Callable[..., Any] | None:
    """Return the function of a metric, for the scoring pass; None where the model itself predicts the score."""
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
    """Return whether a name is one of nnunet-al itself: of an ingredient, a strategy or an alias."""
    return name in _REGISTRY.built_in


def set_built_in(names: Iterable[str]) -> None:
    """Let no package take these names."""
    _REGISTRY.built_in |= set(names)


def set_loader(load: Callable[[], None]) -> None:
    """Call this for every name that is not there: it loads the packages that are installed, once."""
    _REGISTRY.load = load


def load_packages() -> None:
    """Load the packages that are installed and bring strategies along, unless that was done before."""
    _REGISTRY.load()


def note_problem(name: str, sentence: str) -> None:
    """Note why a strategy of another package is left out."""
    _REGISTRY.problems[name] = sentence


def problems() -> dict[str, str]:
    """Return why strategies of other packages are left out: name -> one sentence that names the package; sorted."""
    _REGISTRY.load()
    return dict(sorted(_REGISTRY.problems.items()))


@contextmanager
def undone_on_failure() -> Iterator[None]:
    """Forget what was registered inside, where that ends in an exception."""
    metrics, selectors = dict(_REGISTRY.metrics), dict(_REGISTRY.selectors)
    try:
        yield
    except BaseException:
        _REGISTRY.metrics, _REGISTRY.selectors = metrics, selectors
        raise


def _load_unless(known: bool) -> None:
    if not known:
        _REGISTRY.load()
