"""Figures of small panels: each strategy on its own, each class, each group of cases, measures of fairness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from nnunet_al.report.drawing.captions import how_drawn, last_values
from nnunet_al.report.drawing.interval_lines import MOST_BANDS, draw_lines, drawn_lines
from nnunet_al.report.drawing.svg import Figure, Look, canvas, finished, legend_height, shared_legend, svg_style
from nnunet_al.report.reading.lines import Comparison, classes_of, groups_of
from nnunet_al.report.reading.round_values import Value, class_dice, fairness_measure, of_group
from nnunet_al.text import count

_ROW = 1.75
_COLUMNS = 2
Styles = Mapping[str, Look]


@dataclass(frozen=True)
class _Panel:
    """A panel; ``lead`` says whether the largest ("above") or the smallest value ("below") is best; None: neither."""

    title: str
    value: Value
    lead: str | None = "above"


@svg_style()
def each_figure(comparison: Comparison, styles: Styles) -> Figure | None:
    """Draw each strategy with its interval in its own panel, others in grey; None up to ``MOST_BANDS`` strategies."""
    lines = drawn_lines(comparison, "regions")
    if len(lines) <= MOST_BANDS:
        return None
    rows = -(-len(lines) // _COLUMNS)
    figure = canvas(1.35 * rows + 0.5)
    panels = list(figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False).flat)
    for axes, line in zip(panels, lines, strict=False):
        for other in lines:
            axes.plot(other.curve.budget_P, other.curve.mean_P, color="0.8", lw=0.7)
        limits = axes.get_ylim()
        draw_lines(axes, [line], styles, "regions", small=True)
        axes.set_ylim(min(limits[0], axes.get_ylim()[0]), max(limits[1], axes.get_ylim()[1]))
        axes.set_title(f"{line.label} ({count(line.curve.n, 'run')})", fontsize=8.5)
    _finish(panels, len(lines))
    figure.supylabel("mean foreground Dice", fontsize=9)
    return finished(
        figure,
        ("each", comparison.title),
        f"{comparison.title}: one panel per strategy, with the means of the others in grey. {how_drawn(lines)}",
        f"Learning curves of {comparison.title}, one panel per strategy. {last_values(lines, 'regions', 'mean Dice')}",
    )


@svg_style()
def class_figure(comparison: Comparison, styles: Styles) -> Figure | None:
    """Draw the Dice of each class; None where there is only one."""
    panels = [_Panel(name, class_dice(name)) for name in classes_of(comparison)]
    if len(panels) < 2:
        return None
    return _panels(comparison, styles, panels, "classes", "mean Dice of each class over the test cases")


@svg_style()
def group_figure(comparison: Comparison, styles: Styles) -> Figure | None:
    """Draw each group's Dice and its share of the training set, one row per group; None without groups."""
    panels = []
    for group in groups_of(comparison):
        panels.append(_Panel(f"{group}: Dice", of_group(group, "dice")))
        panels.append(_Panel(f"{group}: share", of_group(group, "share"), None))
    about = "mean Dice of each group's test cases, and its share of the training set"
    return _panels(comparison, styles, panels, "groups", about)


@svg_style()
def fairness_figure(comparison: Comparison, styles: Styles) -> Figure | None:
    """Draw Δ (lower is fairer) and ESSP (higher is better); None without groups that can be compared."""
    panels = [_Panel("Δ", fairness_measure("delta"), "below"), _Panel("ESSP", fairness_measure("essp"))]
    about = "Δ (0 where all groups have the same Dice) and ESSP (Dice of all cases / (1 + Δ))"
    return _panels(comparison, styles, panels, "fairness", about)


def _panels(comparison: Comparison, styles: Styles, wanted: Sequence[_Panel], name: str, about: str) -> Figure | None:
    """Draw the panels, empty where no line has a value; None where all would be empty."""
    content = [(panel, drawn_lines(comparison, "regions", panel.value, runs=False)) for panel in wanted]
    known = [(panel, lines) for panel, lines in content if lines]
    if not known:
        return None
    rows = -(-len(content) // _COLUMNS)
    of_label = {line.label: line for _, lines in known for line in lines}
    figure = canvas(_ROW * rows + 0.2 + legend_height([f"{label} (99 runs)" for label in of_label]))
    all_axes = list(figure.subplots(rows, _COLUMNS, sharex=True, squeeze=False).flat)
    bands = len(of_label) <= MOST_BANDS
    for axes, (panel, lines) in zip(all_axes, content, strict=False):
        draw_lines(axes, lines, styles, "regions", small=True, bands=bands)
        axes.set_title(panel.title)
        if not lines:
            axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center", color="0.35")
    _finish(all_axes, len(content))
    shared_legend(figure, *all_axes)
    ends = (last_values(lines, "regions", panel.title, panel.lead) for panel, lines in known)
    return finished(
        figure,
        (name, comparison.title),
        f"{comparison.title}: {about}, against annotated regions. {how_drawn(list(of_label.values()), bands)}",
        f"{comparison.title}: {about}. {' '.join(ends)}",
    )


def _finish(panels: Sequence[Axes], used: int) -> None:
    """Hide empty panels, and remove the labels along the budget from all but the lowest ones."""
    for axes in panels[used:]:
        axes.set_axis_off()
    for axes in panels[: max(0, used - _COLUMNS)]:
        axes.set_xlabel("")
    for axes in panels[max(0, used - _COLUMNS) : used]:
        axes.tick_params(labelbottom=True)
