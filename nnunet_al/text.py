"""Numbers of things, lists and durations in words."""

from __future__ import annotations

from collections.abc import Sequence

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def count(number: int, thing: str) -> str:
    """Return "1 region" or "2 regions"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def first_names(names: Sequence[str], shown: int, separator: str = ", ") -> str:
    """Return the first ``shown`` names, and how many more there are: "a, b and 3 more"."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{separator.join(names[:shown])}{more}"


def joined(words: Sequence[str]) -> str:
    """Return all words: "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def duration(seconds: float) -> str:
    """Return seconds as people say them, to two units: "2 h 5 min"."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{round(whole / _MINUTE)} min"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"
