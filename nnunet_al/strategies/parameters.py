"""The parameters of ingredients: their defaults, allowed values and meanings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from nnunet_al.errors import StrategyError

# far beyond all sensible values, so that no arithmetic overflows and no array exceeds the memory
_SMALLEST, _LARGEST, _LARGEST_COUNT = 1e-6, 1_000_000, 10_000_000


@dataclass(frozen=True)
class Parameter:
    """A parameter of an ingredient.

    Attributes
    ----------
    meaning : str
        a description, with the unit.
    must_be : str
        the allowed values, in words.
    accepts : callable
        whether a value is allowed.
    """

    default: Any
    meaning: str
    must_be: str
    accepts: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number(default: float, meaning: str, must_be: str, within: Callable[[float], bool]) -> Parameter:
    """Return a parameter that is a number within limits; ``must_be`` describes them in words."""
    return Parameter(default, meaning, f"a number {must_be}", lambda value: _is_number(value) and within(value))


def from_zero(default: float, meaning: str) -> Parameter:
    """Return a parameter that is not negative."""
    return number(default, meaning, f"from 0 to {_LARGEST}", lambda value: 0 <= value <= _LARGEST)


def positive(default: float, meaning: str) -> Parameter:
    """Return a parameter that is above 0."""
    return number(default, meaning, f"from {_SMALLEST:f} to {_LARGEST}", lambda value: _SMALLEST <= value <= _LARGEST)


def share(default: float, meaning: str) -> Parameter:
    """Return a parameter that is a fraction."""
    return number(default, meaning, "from 0 to 1", lambda value: 0 <= value <= 1)


def count(default: int | None, meaning: str, least: int = 1) -> Parameter:
    """Return a parameter that is a whole number."""
    return Parameter(
        default,
        meaning,
        f"a whole number from {least} to {_LARGEST_COUNT}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST_COUNT,
    )


def choice(options: tuple[str, ...], meaning: str) -> Parameter:
    """Return a parameter with a choice of words; the first is the default."""
    return Parameter(options[0], meaning, f"one of {', '.join(options)}", lambda value: value in options)


def or_none(parameter: Parameter, none_means: str, default: Any = None) -> Parameter:
    """Return the same parameter with None as an allowed value, and another default."""
    return Parameter(
        default,
        parameter.meaning,
        f"{parameter.must_be}, or none for {none_means}",
        lambda value: value is None or parameter.accepts(value),
    )


def or_quantile(parameter: Parameter, of: str) -> Parameter:
    """Return the same parameter with words such as "q0.9" as allowed values, the quantile 0.9 ``of`` some values."""
    return Parameter(
        parameter.default,
        parameter.meaning,
        f"{parameter.must_be}, or for example q0.9 for a quantile of {of} in each round",
        lambda value: bool(re.fullmatch(r"q0?\.\d*[1-9]\d*", str(value))) or parameter.accepts(value),
    )


def completed(strategy: str, known: Mapping[str, Parameter], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the value of every known parameter: the given one, else the default; read-only.

    The word ``"none"`` stands for None if None is allowed, because a command line has only words.

    Raises StrategyError if the strategy has no such parameter, or a value is not allowed.
    """
    values = {name: parameter.default for name, parameter in known.items()}
    for name, value in given.items():
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise StrategyError(f"The strategy '{strategy}' has no parameter '{name}': {takes}.")
        if value == "none" and known[name].accepts(None):
            value = None
        if not known[name].accepts(value):
            raise StrategyError(
                f"The parameter '{name}' of the strategy '{strategy}' is {value!r}: use {known[name].must_be}."
            )
        values[name] = value
    return MappingProxyType(values)
