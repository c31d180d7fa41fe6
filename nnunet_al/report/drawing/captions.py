"""Captions and alternative texts of figures with lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_al.report.drawing.interval_lines import Drawn
from nnunet_al.report.reading.lines import AXES, amount
from nnunet_al.text import count, first_names

_MOST_NAMED = 6
_Value = tuple[float, float, float]


def how_drawn(lines: Sequence[Drawn], bands: bool = True) -> str:
    """Return how the lines and bands of a figure were drawn."""
    several = [line for line in lines if line.curve.n > 1]
    changed = [line.label for line in lines if line.changes]
    mark = (
        f" Dotted vertical lines: from there on runs of {_few(changed)} are tested on other cases." if changed else ""
    )
    if not several:
        return f"Each line is a single run and has no interval.{mark}"
    words = ["Lines: means over runs (folds and seeds), up to the budget that all runs of a strategy have reached;"]
    if bands:
        words.append("bands: 95 % intervals of the mean by Student's t, clipped to the picture")
        words[-1] += "; thin lines: the runs." if any(line.runs for line in several) else "."
    else:
        words.append("their intervals are in the table, since this many bands would hide each other.")
    single = [line.label for line in lines if line.curve.n == 1]
    if single:
        words.append(f"A single run, without an interval: {_few(single)}.")
    return " ".join(words) + mark


def last_values(lines: Sequence[Drawn], axis: str, value: str, lead: str | None = "above") -> str:
    """Return the values of the lines at the largest budget that all of them have reached, and the lead of the best.

    There is at least one line, and each has a point; ``value`` is the name of the value that they show. ``lead`` is
    "above" or "below", where the largest or the smallest value is the best; None where neither is. A line leads only
    where the 95 % intervals of the first two do not overlap.
    """
    first, last = max(line.curve.budget_P[0] for line in lines), min(line.curve.budget_P[-1] for line in lines)
    if first > last:
        ends = [f"{line.label} {line.curve.mean_P[-1]:.4f} at {line.curve.budget_P[-1]:,.0f}" for line in lines]
        return f"No {AXES[axis]} are common to all lines; {value} at the end of each: {_few(ends)}."
    reached = sorted(((_at(line, last), line) for line in lines), key=lambda pair: pair[0][0], reverse=lead != "below")
    named = [
        f"{line.label} {mean:.4f}"
        + (f" ({count(line.curve.n, 'run')}, {low:.4f} to {high:.4f})" if line.curve.n > 1 else " (1 run)")
        for (mean, low, high), line in reached
    ]
    sentence = f"With {amount(last, axis)}, {value}: {_few(named)}."
    if lead is None or len(reached) < 2:
        return sentence
    return f"{sentence} {_lead(reached[0], reached[1], lead)}"


def _lead(best: tuple[_Value, Drawn], second: tuple[_Value, Drawn], lead: str) -> str:
    ((mean, low, high), leader), ((other, other_low, other_high), follower) = best, second
    if f"{mean:.4f}" == f"{other:.4f}":
        return f"{leader.label} and {follower.label} are equal to four digits."
    difference = f"{leader.label} is {abs(mean - other):.4f} {lead} {follower.label}"
    if leader.curve.n < 2 or follower.curve.n < 2:
        return f"{difference}; there are too few runs to tell whether it leads."
    if low > other_high or high < other_low:
        return f"{difference} and leads: their 95 % intervals are apart."
    return f"{difference}; their 95 % intervals overlap."


def _at(line: Drawn, budget: float) -> _Value:
    curve = line.curve
    mean, low, high = (float(np.interp(budget, curve.budget_P, of)) for of in (curve.mean_P, curve.low_P, curve.high_P))
    return mean, low, high


def _few(words: Sequence[str]) -> str:
    return first_names(words, _MOST_NAMED) + (" in the table" if len(words) > _MOST_NAMED else "")
