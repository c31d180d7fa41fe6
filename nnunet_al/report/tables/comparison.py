"""Tables that compare strategies: who leads, mean curves, areas, budgets, classes and groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nnunet_al.evaluation.budget import (
    Interval,
    area_under_curve,
    budget_to_reach,
    common_range,
    mean_and_interval,
)
from nnunet_al.report.reading.lines import (
    AXES,
    Comparison,
    Line,
    by_axis,
    classes_of,
    groups_of,
    known_axes,
    line_curve,
    run_curve,
    run_curves,
)
from nnunet_al.report.reading.round_values import Value, class_dice, group_values
from nnunet_al.report.tables.table import Table

PERCENTS = (90, 95, 99)
INTERVALS = "Intervals are those of the mean over runs (folds and seeds), 95 %, by Student's t; a single run has none."

Row = dict[str, Any]


def standings(compared: Sequence[Comparison]) -> Table:
    """Return the Dice of each strategy at the last number of regions that all runs have reached, the best first."""
    rows = [
        row
        for comparison in compared
        for part in by_axis(comparison, "regions")
        if (span := _range(part, "regions"))
        for row in _standing(comparison, part, span[1])
    ]
    return Table(
        "standings",
        "Mean foreground Dice at the largest number of annotated regions that all runs of a dataset have reached, and "
        "the difference to the strategy on top of the list, over the folds and seeds that both were run with. "
        + INTERVALS,
        rows,
        digits={"regions": 0},
    )


def curves(compared: Sequence[Comparison]) -> Table:
    """Return every point of the mean learning curves."""
    rows = [
        {"dataset": comparison.title, "strategy": line.label, "axis": axis, **point}
        for comparison, axis, line in _axes_and_lines(compared)
        for point in _points(line, axis, "budget", "dice")
    ]
    return Table(
        "curves",
        "Mean foreground Dice against what the models were trained on. Runs are interpolated linearly between their "
        "rounds, as far as all runs of the strategy have come. " + INTERVALS,
        rows,
        digits={"budget": 0},
    )


def areas(compared: Sequence[Comparison]) -> Table:
    """Return the area under the curve of each strategy, over the budgets that all runs of its dataset have reached."""
    rows = []
    for comparison in compared:
        for axis in known_axes(comparison):
            for part in by_axis(comparison, axis):
                span = _range(part, axis)
                for line in part.lines if span else ():
                    assert span is not None
                    runs = run_curves(line, axis)
                    if runs:
                        mean, interval = mean_and_interval([area_under_curve(curve, *span) for curve in runs])
                        row: Row = {"dataset": comparison.title, "strategy": line.label, "axis": axis}
                        row |= {"from": span[0], "to": span[1], "area": mean}
                        rows.append(row | _interval(interval) | {"runs": len(runs)})
    return Table(
        "area",
        "Area under the learning curve, divided by its width: the mean Dice between the budgets from and to, which "
        "all runs of the dataset have reached. " + INTERVALS,
        rows,
        digits={"from": 0, "to": 0},
    )


def reference_dice(comparison: Comparison, full_dice: float | None = None) -> float | None:
    """Return the Dice that budgets are measured by: ``full_dice`` where given, else the best mean of any strategy."""
    if full_dice is not None:
        return full_dice
    best = [curve.mean_P.max() for line in comparison.lines if len(curve := line_curve(line, "regions"))]
    return float(max(best)) if best else None


def budgets(
    compared: Sequence[Comparison], full_dice: float | None = None, percents: Sequence[float] = PERCENTS
) -> Table:
    """Return what each strategy needs to reach shares of the reference Dice, in per cent."""
    rows = []
    for comparison, axis, line in _axes_and_lines(compared):
        reference, curve = reference_dice(comparison, full_dice), line_curve(line, axis)
        if reference is None or not len(curve):
            continue
        for percent in percents:
            target = reference * percent / 100
            budget = budget_to_reach((curve.budget_P, curve.mean_P), target)
            at_once = budget is not None and budget == curve.budget_P[0]
            reached = sum(budget_to_reach(run, target) is not None for run in run_curves(line, axis))
            rows.append(
                {"dataset": comparison.title, "strategy": line.label, "axis": axis, "percent": percent}
                | {"target_dice": target, "budget": budget, "runs": curve.n, "runs_that_reach_it": reached}
                | {"remark": "not reached" if budget is None else "at the first model" if at_once else ""}
            )
    reference_is = (
        "the best mean Dice that any strategy of the dataset has reached"
        if full_dice is None
        else f"{full_dice:.4f}, given as the Dice with all data"
    )
    return Table(
        "budget",
        f"The budget with which the mean curve first reaches a share of the reference Dice, by straight lines between "
        f"rounds. The reference is {reference_is}. At the first model: less might have been enough.",
        rows,
        digits={"percent": 0, "budget": 1},
    )


def classes(compared: Sequence[Comparison]) -> Table:
    """Return the mean curves of each class against annotated regions."""
    rows = [
        {"dataset": comparison.title, "strategy": line.label, "class": name, **point}
        for comparison in compared
        for name in classes_of(comparison)
        for line in comparison.lines
        for point in _points(line, "regions", "regions", "dice", class_dice(name))
    ]
    return Table(
        "classes",
        "Mean Dice of each class over the test cases against annotated regions. " + INTERVALS,
        rows,
        digits={"regions": 0},
    )


def groups(compared: Sequence[Comparison]) -> Table:
    """Return the mean curves of Δ, ESSP, the largest gap, and of each group's Dice and share of what is annotated."""
    rows = [
        {"dataset": comparison.title, "strategy": line.label, "measure": measure, "group": group, **point}
        for comparison in compared
        for measure, group, value in group_values(groups_of(comparison))
        for line in comparison.lines
        for point in _points(line, "regions", "regions", "value", value)
    ]
    return Table(
        "groups",
        "Groups of cases: Δ = Σ |Dice of all - Dice of a group|, ESSP = Dice of all / (1 + Δ), the largest gap between "
        "the means of two groups; of each group the mean Dice of its test cases and its share of what the model was "
        "trained on. Compare Δ and ESSP only between campaigns with as many groups. " + INTERVALS,
        rows,
        digits={"regions": 0},
    )


def _axes_and_lines(compared: Sequence[Comparison]) -> Iterator[tuple[Comparison, str, Line]]:
    for comparison in compared:
        for axis in AXES:
            yield from ((comparison, axis, line) for line in comparison.lines)


def _points(line: Line, axis: str, budget: str, name: str, value: Value | None = None) -> Iterator[Row]:
    curve = line_curve(line, axis) if value is None else line_curve(line, axis, value)
    for x, mean, low, high in zip(curve.budget_P, curve.mean_P, curve.low_P, curve.high_P, strict=True):
        interval = None if np.isnan(low) else (float(low), float(high))
        yield {
            budget: int(x) if x.is_integer() else float(x),
            name: float(mean),
            **_interval(interval),
            "runs": curve.n,
        }


def _interval(interval: Interval | None, prefix: str = "") -> Row:
    low, high = interval or (None, None)
    return {f"{prefix}low": low, f"{prefix}high": high}


def _range(comparison: Comparison, axis: str) -> Interval | None:
    return common_range([curve for line in comparison.lines for curve in run_curves(line, axis)])


def _standing(comparison: Comparison, part: Comparison, budget: float) -> list[Row]:
    reached = {line.label: _at(line, budget) for line in part.lines}
    order = sorted(
        (label for label, values in reached.items() if values),
        key=lambda label: -float(np.mean(list(reached[label].values()))),
    )
    rows = []
    for label in order:
        values, best = reached[label], reached[order[0]]
        mean, interval = mean_and_interval(list(values.values()))
        row = {"dataset": comparison.title, "strategy": label, "regions": budget, "dice": mean}
        row |= _interval(interval) | {"runs": len(values)}
        pairs = sorted(values.keys() & best.keys()) if label != order[0] else []
        difference, within = mean_and_interval([values[pair] - best[pair] for pair in pairs]) if pairs else (None, None)
        rows.append(row | {"difference": difference} | _interval(within, "difference_") | {"pairs": len(pairs) or None})
    return rows


def _at(line: Line, budget: float) -> dict[tuple[int, int], float]:
    """Return the Dice of a line's runs with so many regions, by fold and seed."""
    found = {}
    for run in line.runs:
        regions_P, dice_P = run_curve(run, "regions")
        if len(regions_P):
            found[run.decided.fold, run.decided.seed] = float(np.interp(budget, regions_P, dice_P))
    return found
