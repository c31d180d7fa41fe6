"""Figures with one row per strategy: budgets to reach the reference Dice, areas under curves, time per round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from nnunet_al.report.drawing.palette import BLACK, BLUE, BLUISH_GREEN, ORANGE, REDDISH_PURPLE, SKY_BLUE, VERMILLION
from nnunet_al.report.drawing.svg import Figure, canvas, finished, legend_height, shared_legend, svg_style
from nnunet_al.report.reading.lines import AXES
from nnunet_al.report.tables.times import OTHER, PARTS

_SHADES = ("#c6dbef", "#9ecae1", "#4292c6", "#084594")  # one hue, light to dark, so that grey print keeps their order
_PART_COLOURS = (SKY_BLUE, BLUE, BLUISH_GREEN, ORANGE, VERMILLION, REDDISH_PURPLE, BLACK, "0.75")
_HATCHES = ("", "//", "", "\\\\", "", "xx", "", "--")
Row = Mapping[str, Any]


@svg_style()
def budget_figure(title: str, axis: str, budgets: Sequence[Row]) -> Figure | None:
    """Draw the budgets with which each strategy reaches percentages of the reference Dice; None where none is known.

    They are the rows of the table "budget" of one dataset and axis.
    """
    rows = [row for row in budgets if row["dataset"] == title and row["axis"] == axis]
    if not rows:
        return None
    names, percents = (list(dict.fromkeys(row[name] for row in rows)) for name in ("strategy", "percent"))
    figure = canvas(0.15 * len(percents) * len(names) + 1.1)
    axes = figure.add_subplot()
    largest = max((row["budget"] for row in rows if row["budget"] is not None), default=1.0) or 1.0
    height = 0.8 / len(percents)
    offsets = height * (np.arange(len(percents)) - (len(percents) - 1) / 2)
    for shade, percent, offset in zip(_SHADES[-len(percents) :], percents, offsets, strict=True):
        of = {row["strategy"]: row for row in rows if row["percent"] == percent}
        places = np.arange(len(names)) + offset
        widths = [of[name]["budget"] or 0.0 for name in names]
        targets = {f" ({row['target_dice']:.3f})" for row in of.values()}
        label = f"{percent} %{targets.pop() if len(targets) == 1 else ''}"
        axes.barh(places, widths, height, color=shade, label=label)
        for place, name, width in zip(places, names, widths, strict=True):
            words = _words(of[name]["budget"], of[name]["remark"])
            axes.text(width + 0.01 * largest, place, words, va="center", fontsize=7)
    axes.set_xlim(0, 1.15 * largest)
    _finish(figure, axes, names, AXES[axis], title)
    needed = "; ".join(
        f"{percent} % of the reference: "
        + ", ".join(
            f"{row['strategy']} {_words(row['budget'], row['remark'])}" for row in rows if row["percent"] == percent
        )
        for percent in percents
    )
    return finished(
        figure,
        ("budget", axis, title),
        f"{title}: {AXES[axis]} with which the mean curve first reaches percentages of the reference Dice (value in "
        "brackets). ≤: reached by the first model.",
        f"{title}, {AXES[axis]} needed: {needed}.",
    )


@svg_style()
def area_figure(title: str, areas: Sequence[Row]) -> Figure | None:
    """Draw the area under each strategy's curve against regions, with its interval; None for fewer than two strategies.

    They are the rows of the table "area" of one dataset, as far as their budgets are those of the first row.
    """
    rows = [row for row in areas if row["dataset"] == title and row["axis"] == "regions"]
    rows = [row for row in rows if (row["from"], row["to"]) == (rows[0]["from"], rows[0]["to"])]
    if len(rows) < 2:
        return None
    rows = sorted(rows, key=lambda row: -row["area"])
    names = [row["strategy"] for row in rows]
    figure = canvas(0.28 * len(rows) + 0.9)
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [place, place], color=BLUE, lw=2, alpha=0.5)
        axes.plot(row["area"], place, "o", color=BLUE, ms=5)
    axes.grid(axis="x", color="0.9", lw=0.6)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    _finish(figure, axes, names, "mean Dice under the curve", title)
    between = f"from {rows[0]['from']:,.0f} to {rows[0]['to']:,.0f} annotated regions"
    found = ", ".join(
        f"{row['strategy']} {row['area']:.4f}"
        + ("" if row["low"] is None else f" ({row['low']:.4f} to {row['high']:.4f})")
        for row in rows
    )
    return finished(
        figure,
        ("area", title),
        f"{title}: mean Dice under the learning curve {between}. Lines: 95 % intervals, where there are several runs.",
        f"{title}, area under the curve {between}: {found}.",
    )


@svg_style()
def time_figure(title: str, times: Sequence[Row]) -> Figure | None:
    """Draw one dataset's rows of the table "time", one bar per strategy; None where no round with a model was begun."""
    rows = [row for row in times if row["dataset"] == title]
    if not rows:
        return None
    parts = [name for name in (*PARTS, OTHER) if any(row.get(name) for row in rows)]
    longest = max(row["total"] for row in rows)
    seconds, unit = next(((s, u) for s, u in ((3600, "hours"), (60, "minutes")) if longest >= 2 * s), (1, "seconds"))
    figure = canvas(0.3 * len(rows) + 1.0 + legend_height(parts))
    axes = figure.add_subplot()
    left = np.zeros(len(rows))
    looks = dict(zip((*PARTS, OTHER), zip(_PART_COLOURS, _HATCHES, strict=True), strict=True))
    for part in parts:
        widths = np.array([row[part] for row in rows]) / seconds
        colour, hatch = looks[part]
        axes.barh(range(len(rows)), widths, 0.7, left, color=colour, hatch=hatch, ec="white", lw=0.4, label=part)
        left += widths
    for place, total in enumerate(left):
        axes.text(total + 0.01 * left.max(), place, f"{total:.3g}", va="center", fontsize=8)
    axes.set_xlim(0, 1.12 * left.max())
    _finish(figure, axes, [row["strategy"] for row in rows], f"{unit} per round", title)
    spent = "; ".join(
        f"{row['strategy']} {total:.3g}{_longest(row, parts)}" for row, total in zip(rows, left, strict=True)
    )
    return finished(
        figure,
        ("time", title),
        f"{title}: {unit} per round, by part of the round; mean over rounds and runs.",
        f"{title}, {unit} per round: {spent}.",
    )


def _finish(figure: Canvas, axes: Axes, names: Sequence[str], along: str, title: str) -> None:
    """Label the bars, from the top down, and the axis along them."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(along)
    axes.set_title(title)
    axes.tick_params(axis="y", length=0)
    shared_legend(figure, axes)


def _words(budget: float | None, remark: str) -> str:
    if budget is None:
        return "not reached"
    return f"{'≤ ' if remark else ''}{budget:,.0f}"


def _longest(row: Row, parts: Sequence[str]) -> str:
    part = max(parts, key=lambda name: row[name])
    return f" (most of it {part}, {row[part] / row['total']:.0%})" if row["total"] > 0 else ""
