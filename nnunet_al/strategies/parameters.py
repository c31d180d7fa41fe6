"""The parameters of recipes: their defaults, what they must be, and which recipes they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from nnunet_al.errors import StrategyError
from nnunet_al.selection.flqmi import GREEDY
from nnunet_al.selection.query import QUERY_MODES


@dataclass(frozen=True)
class Parameter:
    """A parameter's default, the test that a value must pass and that test in words."""

    default: Any
    accepts: Callable[[Any], bool]
    must_be: str
    meaning: str


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _count(default: int, meaning: str) -> Parameter:
    return Parameter(default, _is_count, "a whole number from 1", meaning)


def _choice(default: str, options: tuple[str, ...], meaning: str) -> Parameter:
    return Parameter(default, lambda value: value in options, f"one of {', '.join(options)}", meaning)


PARAMETERS: Mapping[str, Parameter] = MappingProxyType(
    {
        "passes": _count(10, "sampled sub-networks T that predict each region"),
        "query_mode": _choice("uncertainty", QUERY_MODES, "how the query set is drawn (paper: appendix D)"),
        "query_size": Parameter(
            None,
            lambda value: value is None or _is_count(value),
            "a whole number from 1, or none for the elbow of the scores",
            "draws that make up the query set",
        ),
        "eta": Parameter(
            1.0,
            lambda value: _is_number(value) and 0 <= value < float("inf"),
            "a number from 0",
            "weight of relevance to the query set against its coverage",
        ),
        "epsilon": Parameter(
            0.01,
            lambda value: _is_number(value) and 0 < value < 1,
            "a number between 0 and 1",
            "stochastic greedy looks at floor(N/B ln(1/epsilon)) regions a step",
        ),
        "greedy": _choice("stochastic", GREEDY, "whether a step looks at a sample or at all regions"),
        "embedding_size": _count(10_000, "entries of a gradient embedding"),
        "fisher_samples": _count(200, "regions of the query set that the Fisher information is averaged over"),
        "damping": Parameter(
            1e-3,
            lambda value: _is_number(value) and 0 < value < float("inf"),
            "a number above 0",
            "lambda of the Fisher kernel, as a multiple of the mean of F over the sampled parameters",
        ),
        "share": Parameter(
            1 / 3,
            lambda value: _is_number(value) and 0 <= value <= 1,
            "a number from 0 to 1",
            "part of the batch that is drawn from regions with predicted foreground",
        ),
    }
)

# keys are what a recipe is made of: its posterior, its embedding and its selector
PARAMETERS_OF: Mapping[str | None, tuple[str, ...]] = MappingProxyType(
    {
        "mc_dropout": ("passes",),
        "bottleneck_gradient": ("embedding_size",),
        "fisher": ("embedding_size", "fisher_samples", "damping"),
        "random_foreground": ("share",),
        "flqmi": ("query_mode", "query_size", "eta", "epsilon", "greedy"),
    }
)


def complete(strategy: str, ingredients: tuple[str | None, ...], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return every parameter that the ingredients take: those given, and the defaults of the others; read-only.

    Raises
    ------
    StrategyError
        if a parameter is given that the strategy does not take, or a value that does not do.
    """
    names = [name for ingredient in ingredients for name in PARAMETERS_OF.get(ingredient, ())]
    for name, value in given.items():
        if name not in names:
            takes = f"it takes {', '.join(names)}" if names else "it takes none"
            raise StrategyError(f"The strategy '{strategy}' has no parameter '{name}': {takes}.")
        if not PARAMETERS[name].accepts(value):
            raise StrategyError(
                f"The parameter '{name}' of the strategy '{strategy}' is {value!r}: use {PARAMETERS[name].must_be}."
            )
    return MappingProxyType({name: given.get(name, PARAMETERS[name].default) for name in names})
