"""Figures of bars: the budget that a share of the reference Dice needs, and the time that the parts of a round take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnunet_al.report.drawing.palette import BLACK, BLUE, BLUISH_GREEN, ORANGE, REDDISH_PURPLE, SKY_BLUE, VERMILLION
from nnunet_al.report.drawing.svg import Figure, canvas, finished, legend_height, shared_legend, slug, svg_style
from nnunet_al.report.reading.lines import Comparison
from nnunet_al.report.tables.comparison import PERCENTS, budgets
from nnunet_al.report.tables.times import OTHER, PARTS, times

_SHADES = ("#9ecae1", "#4292c6", "#084594")  # one hue, light to dark, so that grey print keeps their order
_PART_COLOURS = (SKY_BLUE, BLUE, BLUISH_GREEN, ORANGE, VERMILLION, REDDISH_PURPLE, BLACK, "0.75")
_HATCHES = ("", "//", "", "\\\\", "", "xx", "", "--")


@svg_style()
def budget_figure(comparison: Comparison, full_dice: float | None = None) -> Figure | None:
    """Draw the regions with which each strategy reaches shares of the reference Dice; None where nothing is known."""
    table = budgets([comparison], full_dice)
    rows = [row for row in table.rows if row["axis"] == "regions"]
    if not rows:
        return None
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    figure = canvas(0.45 * len(names) + 1.1)
    axes = figure.add_subplot()
    largest = max((row["budget"] for row in rows if row["budget"] is not None), default=1.0) or 1.0
    height = 0.8 / len(PERCENTS)
    for shade, percent, offset in zip(_SHADES, PERCENTS, (-height, 0.0, height), strict=True):
        of = {row["strategy"]: row for row in rows if row["percent"] == percent}
        places = np.arange(len(names)) + offset
        widths = [of[name]["budget"] or 0.0 for name in names]
        target = of[names[0]]["target_dice"]
        axes.barh(places, widths, height, color=shade, label=f"{percent} % ({target:.3f})")
        for place, name in zip(places, names, strict=True):
            axes.text(
                (of[name]["budget"] or 0.0) + 0.01 * largest,
                place,
                _words(of[name]["budget"], of[name]["remark"]),
                va="center",
                fontsize=7,
            )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * largest)
    axes.set_xlabel("annotated regions")
    axes.set_title(comparison.title)
    axes.tick_params(axis="y", length=0)
    shared_legend(figure, axes)
    return finished(
        figure,
        slug("budget", comparison.title),
        f"{comparison.title}: annotated regions needed for shares of the reference Dice (in brackets that Dice). "
        f"{table.caption} A ≤ marks that last case.",
        f"{comparison.title}, regions needed: "
        + "; ".join(
            f"{percent} % of the reference: "
            + ", ".join(
                f"{row['strategy']} {_words(row['budget'], row['remark'])}" for row in rows if row["percent"] == percent
            )
            for percent in PERCENTS
        )
        + ".",
    )


def _words(budget: float | None, remark: str) -> str:
    if budget is None:
        return "not reached"
    return f"{'≤ ' if remark else ''}{budget:,.0f}"


@svg_style()
def time_figure(comparison: Comparison) -> Figure | None:
    """Draw what the parts of a round take, on one bar a strategy; None where no round with a model was begun."""
    rows = times([comparison]).rows
    if not rows:
        return None
    parts = [name for name in (*PARTS, OTHER) if name in rows[0]]
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
    axes.set_yticks(range(len(rows)), [row["strategy"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * left.max())
    axes.set_xlabel(f"{unit} a round")
    axes.set_title(comparison.title)
    axes.tick_params(axis="y", length=0)
    shared_legend(figure, axes)
    return finished(
        figure,
        slug("time", comparison.title),
        f"{comparison.title}: {unit} a round, by what they are spent on; mean over rounds and runs. What readers take "
        "between two calls is not in it.",
        f"{comparison.title}, {unit} a round: "
        + "; ".join(
            f"{row['strategy']} {total:.3g}{_longest(row, parts)}" for row, total in zip(rows, left, strict=True)
        )
        + ".",
    )


def _longest(row: Mapping[str, Any], parts: list[str]) -> str:
    part = max(parts, key=lambda name: row[name])
    return f" (most of it {part}, {row[part] / row['total']:.0%})" if row["total"] > 0 else ""
