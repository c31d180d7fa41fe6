"""All figures that compare campaigns, in the order of the report, and those of learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nnunet_al.evaluation.penalty import PenaltyMatrix
from nnunet_al.report.drawing.bar_figures import area_figure, budget_figure, time_figure
from nnunet_al.report.drawing.captions import how_drawn, last_values
from nnunet_al.report.drawing.interval_lines import MOST_BANDS, draw_lines, drawn_lines
from nnunet_al.report.drawing.panel_figures import class_figure, each_figure, fairness_figure, group_figure
from nnunet_al.report.drawing.penalty_figure import penalty_figure
from nnunet_al.report.drawing.svg import Figure, Look, canvas, finished, legend_height, looks, shared_legend, svg_style
from nnunet_al.report.reading.lines import AXES, Comparison, by_axis, known_axes
from nnunet_al.report.reading.reference import Reference
from nnunet_al.report.reading.round_values import DICE, HD95, Measure
from nnunet_al.report.tables.comparison import NO_REFERENCE
from nnunet_al.report.tables.table import Table

_ALL_DATA = "all data"


def campaign_figures(
    compared: Sequence[Comparison],
    tables: Mapping[str, Table],
    matrices: Mapping[str, PenaltyMatrix],
    reference: Reference = NO_REFERENCE,
) -> list[Figure]:
    """Return all figures, in the order of the report; figures with nothing to draw are left out.

    Their names begin with ``curves_<axis>``, ``each``, ``classes``, ``groups``, ``fairness``, ``penalty``,
    ``curves_hd95``, ``penalty_hd95``, ``budget_<axis>``, ``area`` and ``time``, and end with the dataset. A strategy
    looks the same in all of them. Of ``tables``, by name, "budget", "area" and "time" are drawn.
    """
    styles = looks([line.label for comparison in compared for line in comparison.lines])
    drawn: list[Figure | None] = []
    for comparison in compared:
        for axis in known_axes(comparison):
            drawn += [
                learning_figure(part, axis, styles, full=_full(part, reference)) for part in by_axis(comparison, axis)
            ]
        drawn += [each_figure(part, styles) for part in by_axis(comparison, "regions")]
        for axis in ("regions", "contour_mm"):
            drawn += [budget_figure(part.title, axis, tables["budget"].rows) for part in by_axis(comparison, axis)]
        drawn += [area_figure(part.title, tables["area"].rows) for part in by_axis(comparison, "regions")]
    drawn.append(penalty_figure(matrices[DICE.name]))
    drawn += [
        learning_figure(part, "regions", styles, HD95) for whole in compared for part in by_axis(whole, "regions")
    ]
    drawn.append(penalty_figure(matrices[HD95.name], HD95))
    for draw in (class_figure, group_figure, fairness_figure):
        drawn += [draw(part, styles) for comparison in compared for part in by_axis(comparison, "regions")]
    drawn += [time_figure(comparison.title, tables["time"].rows) for comparison in compared]
    return [figure for figure in drawn if figure is not None]


def _full(part: Comparison, reference: Reference) -> float | None:
    """Return the Dice with all data where it is one for all lines of a picture."""
    found = {reference.of(line) for line in part.lines}
    return found.pop() if len(found) == 1 else None


@svg_style()
def learning_figure(
    comparison: Comparison, axis: str, styles: Mapping[str, Look], measure: Measure = DICE, full: float | None = None
) -> Figure | None:
    """Draw mean foreground Dice, or another measure, against ``axis``; None where nothing is known.

    ``full`` is the Dice with all data, drawn as a level.
    """
    lines = drawn_lines(comparison, axis, measure.value)
    if not lines:
        return None
    bands = len(lines) <= MOST_BANDS
    if not bands:
        lines = [replace(line, runs=()) for line in lines]
    labels = [f"{line.label} (99 runs)" for line in lines]
    figure = canvas(3.1 + legend_height(labels + ([] if full is None else [_ALL_DATA])))
    axes = figure.add_subplot()
    draw_lines(axes, lines, styles, axis, bands=bands)
    if full is not None:
        axes.axhline(full, color="0.35", lw=1, ls=(0, (6, 2)), label=_ALL_DATA)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, full - 0.04 * (high - low)), max(high, full + 0.04 * (high - low)))
    axes.set_ylabel("mean foreground Dice" if measure is DICE else "mean foreground HD95 [mm]")
    axes.set_title(comparison.title)
    shared_legend(figure, axes)
    value, lead = ("mean Dice", "above") if measure is DICE else ("mean HD95 in mm", "below")
    ends = last_values(lines, axis, value, lead)
    level = "" if full is None else f" Dashed level: {full:.4f}, with all data."
    return finished(
        figure,
        (f"curves{measure.suffix}", axis, comparison.title),
        f"{comparison.title}: {measure.words} on the test cases against {AXES[axis]}. {how_drawn(lines, bands)}{level}",
        f"Learning curves of {comparison.title} against {AXES[axis]}. {ends}{level}",
    )
