"""Mean lines with their intervals, against the size of the training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nnunet_al.evaluation.budget import Curve
from nnunet_al.report.drawing.svg import Look, legend_name
from nnunet_al.report.reading.lines import AXES, Comparison, MeanCurve, changes_of_tests, line_curve, run_curves
from nnunet_al.report.reading.round_values import Value, dice
from nnunet_al.text import count

MOST_BANDS = 5
"""Number of lines up to which their bands can be told apart in one picture."""

_MOST_MARKERS = 10
# share of the height of the lines by which bands may exceed them before they are cut off
_ROOM = 0.6


@dataclass(frozen=True)
class Drawn:
    """A mean line; ``runs`` are drawn as thin lines behind it, ``changes`` are budgets at which test cases change."""

    label: str
    curve: MeanCurve
    runs: Sequence[Curve] = ()
    changes: Sequence[float] = ()


def drawn_lines(comparison: Comparison, axis: str, value: Value = dice, runs: bool = True) -> list[Drawn]:
    """Return the lines of a comparison that have a point, with their ``runs`` or without."""
    found = [
        Drawn(
            line.label,
            line_curve(line, axis, value),
            run_curves(line, axis, value) if runs else (),
            changes_of_tests(line, axis),
        )
        for line in comparison.lines
    ]
    return [line for line in found if len(line.curve)]


def draw_lines(
    axes: Axes, lines: Sequence[Drawn], styles: Mapping[str, Look], axis: str, small: bool = False, bands: bool = True
) -> None:
    """Draw mean lines into axes, with bands (a bar at a single point) where there is an interval.

    The limits follow the lines, and the bands as far as they do not flatten the lines; where all values lie between
    0 and 1, so do the limits.
    """
    shown = [line for line in lines if len(line.curve)]
    factor, words = _scale(axis, shown)
    for line in shown:
        look, curve = styles[line.label], line.curve
        x = curve.budget_P / factor
        if bands and curve.n > 1:
            axes.fill_between(x, curve.low_P, curve.high_P, color=look.colour, alpha=0.15, lw=0)
            if len(curve) == 1:
                half = curve.high_P - curve.mean_P
                axes.errorbar(x, curve.mean_P, half, color=look.colour, capsize=4, lw=1)
        for budget in line.changes:
            axes.axvline(budget / factor, color=look.colour, ls=(0, (1, 2)), lw=1)
        for budget_P, dice_P in line.runs if curve.n > 1 else ():
            axes.plot(budget_P / factor, dice_P, color=look.colour, alpha=0.35, lw=0.6)
        axes.plot(
            x,
            curve.mean_P,
            color=look.colour,
            marker=look.marker,
            markevery=max(1, -(-len(curve) // _MOST_MARKERS)),
            ls=look.dashes,
            lw=1.2 if small else 1.6,
            ms=3.5 if small else 5,
            mec="white",
            mew=0.5,
            label=legend_name(f"{line.label} ({count(curve.n, 'run')})"),
        )
    axes.set_xlabel(words)
    frame(axes, integer=axis not in ("minutes", "pool_percent") and factor == 1)
    _limit(axes, shown, bands)
    budgets = {float(budget) / factor for line in shown for budget in line.curve.budget_P}
    if len(budgets) == 1:
        (budget,) = budgets
        axes.set_xlim(budget - max(1.0, budget / 2), budget + max(1.0, budget / 2))


def frame(axes: Axes, integer: bool = True) -> None:
    """Draw a light grid, with few ticks along the budget."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=integer, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(color="0.9", lw=0.6)
    axes.set_axisbelow(True)


def _scale(axis: str, lines: Sequence[Drawn]) -> tuple[float, str]:
    largest = max((float(line.curve.budget_P.max()) for line in lines), default=0.0)
    for factor, word in ((1e9, "billions"), (1e6, "millions"), (1e4, "thousands")):
        if largest >= factor:
            factor = 1e3 if word == "thousands" else factor
            return factor, f"{AXES[axis]}, {word}"
    return 1.0, AXES[axis]


def _limit(axes: Axes, lines: Sequence[Drawn], bands: bool) -> None:
    drawn = [line.curve.mean_P for line in lines] + [run[1] for line in lines for run in line.runs if line.curve.n > 1]
    if not drawn:
        return
    values = np.concatenate(drawn)
    low, high = float(values.min()), float(values.max())
    room = max(high - low, 0.02)
    bottom, top = low - 0.08 * room, high + 0.08 * room
    if bands:
        edges = np.concatenate([edge for line in lines for edge in (line.curve.low_P, line.curve.high_P)])
        edges = edges[np.isfinite(edges)]
        if len(edges):
            bottom = min(bottom, max(float(edges.min()) - 0.02 * room, low - _ROOM * room))
            top = max(top, min(float(edges.max()) + 0.02 * room, high + _ROOM * room))
    if low >= 0 and high <= 1:
        bottom, top = max(bottom, -0.02), min(top, 1.02)
    axes.set_ylim(bottom, top)
