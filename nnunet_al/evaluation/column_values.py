"""What the values of one column of a table mean: missing ones, numbers, and spellings of the same."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

Column = Mapping[str, "str | None"]
"""Case -> value as it is written, None where it is missing."""

_MISSING = {  # as in BIDS, and as data frames and spreadsheets write it
    *("", "n/a", "nan", "na", "none", "null", "#n/a", "#na", "#n/a n/a", "<na>", "n.a.", "-nan", "1.#qnan", "-1.#ind")
}
_COMMA = re.compile(r"[+-]?\d+,\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


def known_value(value: str) -> str | None:
    """Return a value, or None if it says that there is none, such as ``n/a``."""
    return None if value.lower() in _MISSING else value


def has_commas(column: Column) -> bool:
    """Tell whether a column holds numbers with commas."""
    return any(_COMMA.fullmatch(value) for value in column.values() if value is not None)


def numbers_of(column: Column) -> dict[str, float | None]:
    """Read the numbers of a column; None where a value is none. A missing value has no entry.

    A comma is a decimal one where no number of the column has a point, and one of them cannot mean thousands.
    """
    known = {case: value for case, value in column.items() if value is not None}
    commas = [value for value in known.values() if _COMMA.fullmatch(value)]
    points = any("." in value and number_in(value) is not None for value in known.values())
    decimal = commas and not points and not all(_THOUSANDS.fullmatch(value) for value in commas)
    return {case: number_in(value.replace(",", ".") if decimal else value) for case, value in known.items()}


def number_in(text: str) -> float | None:
    """Read a finite number with a decimal point; None if the text is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def look_alikes(column: Column) -> list[dict[str, list[str]]]:
    """Return each value that is spelled in several ways: spelling -> its cases.

    Spellings are of one value if they are equal numbers, or differ in capitals or in Unicode's form only.
    """
    numbers = numbers_of(column)
    spellings: dict[Any, dict[str, list[str]]] = {}
    for case, value in column.items():
        if value is not None:
            number = numbers[case]
            same = unicodedata.normalize("NFKC", value).casefold() if number is None else number
            spellings.setdefault(same, {}).setdefault(value, []).append(case)
    return [cases_of for cases_of in spellings.values() if len(cases_of) > 1]
