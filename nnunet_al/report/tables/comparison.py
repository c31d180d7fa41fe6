"""Tables that compare strategies: mean curves, areas, budgets, classes and groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nnunet_al.evaluation.budget import area_under_curve, budget_to_reach, mean_and_interval
from nnunet_al.report.reading.lines import (
    AXES,
    Comparison,
    Line,
    by_axis,
    classes_of,
    groups_of,
    known_axes,
    line_curve,
    overlapping,
    run_curves,
)
from nnunet_al.report.reading.reference import Reference
from nnunet_al.report.reading.round_values import (
    DICE,
    Measure,
    Value,
    class_dice,
    class_hd95,
    dice,
    group_values,
    pool_percent,
)
from nnunet_al.report.tables.ranking import INTERVALS, Row, interval_columns
from nnunet_al.report.tables.table import Table

PERCENTS = (90, 95, 99)
NO_REFERENCE = Reference()


def curves(compared: Sequence[Comparison], measure: Measure = DICE) -> Table:
    """Return all points of the mean learning curves of a measure."""
    rows = [
        {"dataset": part.title, "strategy": line.label, "axis": axis, **point}
        for _, part, axis, line in _axes_and_lines(compared)
        for point in _points(line, axis, "budget", measure.name, measure.value)
    ]
    words = measure.words[0].upper() + measure.words[1:]
    return Table(
        f"curves{measure.suffix}",
        f"{words} against the size of the training set. Runs are interpolated linearly between their "
        "rounds, up to the budget that all runs of the strategy have reached. " + INTERVALS,
        rows,
        digits={**dict.fromkeys((measure.name, "low", "high"), measure.digits), "budget": 1},
    )


def areas(compared: Sequence[Comparison]) -> Table:
    """Return the area under the curve of each strategy, over the budgets that all comparable runs have reached."""
    rows = []
    for comparison in compared:
        for axis in known_axes(comparison):
            for whole in by_axis(comparison, axis):
                for part, (low, high) in overlapping(whole, axis):
                    for line in part.lines:
                        areas = [area_under_curve(curve, low, high) for curve in run_curves(line, axis)]
                        mean, interval = mean_and_interval(areas)
                        row: Row = {"dataset": part.title, "strategy": line.label, "axis": axis}
                        row |= {"from": _short(low), "to": _short(high), "area": mean}
                        rows.append(row | interval_columns(interval) | {"runs": len(areas)})
    return Table(
        "area",
        "Area under the learning curve, divided by its width: the mean Dice between the budgets from and to, which "
        "all runs of the dataset have reached, except those whose budgets do not overlap with these; "
        "compare areas only where both budgets are the same. " + INTERVALS,
        rows,
        digits={"from": 1, "to": 1},
    )


def budgets(compared: Sequence[Comparison], reference: Reference = NO_REFERENCE) -> Table:
    """Return the budget that each strategy needs to reach percentages of the reference Dice.

    100 % is among them where the reference is a Dice with all data, since one strategy reaches its own best.
    """
    rows = []
    bests = {comparison.title: _best(comparison) for comparison in compared}
    for comparison, part, axis, line in _axes_and_lines(compared):
        curve, full = line_curve(line, axis), reference.of(line)
        whole = bests[comparison.title] if full is None else full
        if not whole or not len(curve):  # a percentage of 0 is 0
            continue
        for percent in (*PERCENTS, 100) if reference.of_all(comparison) else PERCENTS:
            target = whole * percent / 100
            budget = budget_to_reach((curve.budget_P, curve.mean_P), target)
            at_once = budget is not None and budget == curve.budget_P[0]
            reached = sum(budget_to_reach(run, target) is not None for run in run_curves(line, axis))
            rows.append(
                {"dataset": part.title, "strategy": line.label, "axis": axis, "percent": percent}
                | {"target_dice": target, "budget": budget, "runs": curve.n, "runs_that_reach_it": reached}
                | {"remark": "not reached" if budget is None else "at the first model" if at_once else ""}
            )
    return Table(
        "budget",
        f"The budget with which the mean curve first reaches a percentage of the reference Dice, interpolated linearly "
        f"between rounds. {reference.words(compared)} At the first model: less might have been enough.",
        rows,
        digits={"percent": 0, "budget": 1},
    )


def _best(comparison: Comparison) -> float | None:
    """Return the best mean of any strategy."""
    best = [curve.mean_P.max() for line in comparison.lines if len(curve := line_curve(line, "regions"))]
    return float(max(best)) if best else None


def highest(compared: Sequence[Comparison]) -> Table:
    """Return the highest point of each strategy's mean curve."""
    rows = []
    for comparison in compared:
        for part in by_axis(comparison, "regions"):
            for line in part.lines:
                curve, share = line_curve(line, "regions"), line_curve(line, "regions", pool_percent)
                if not len(curve):
                    continue
                at = int(curve.mean_P.argmax())
                percent = float(np.interp(curve.budget_P[at], share.budget_P, share.mean_P)) if len(share) else None
                row: Row = {"dataset": part.title, "strategy": line.label, "highest_dice": float(curve.mean_P[at])}
                row |= {"regions": _short(float(curve.budget_P[at])), "pool_percent": percent}
                rows.append(row | {"budgets": len(curve), "runs": curve.n})
    return Table(
        "highest",
        "The highest point of each mean learning curve, the regions at which it lies, and their share of the pool "
        "(%). The highest of many points is partly chance: compare it only where the budgets (points) are as many.",
        rows,
        titles={"pool_percent": "share of the pool [%]"},
        digits={"pool_percent": 1},
    )


def classes(compared: Sequence[Comparison]) -> Table:
    """Return the mean curves of each class against annotated regions."""
    rows = [
        {"dataset": part.title, "strategy": line.label, "class": name, **point}
        for comparison in compared
        for part in by_axis(comparison, "regions")
        for name in classes_of(part)
        for line in part.lines
        for point in _class_points(line, name)
    ]
    return Table(
        "classes",
        "Mean Dice and HD95 (mm) of each class over the test cases against annotated regions. The interval is that of "
        "Dice. " + INTERVALS,
        rows,
        titles={"hd95_mm": "HD95 [mm]"},
        digits={"regions": 0, "hd95_mm": 2},
    )


def groups(compared: Sequence[Comparison]) -> Table:
    """Return the mean curves of Δ by both rules, ESSP, the largest gap, and each group's Dice, share and weight."""
    rows = [
        {"dataset": part.title, "strategy": line.label, "measure": measure, "group": group, **point}
        for comparison in compared
        for part in by_axis(comparison, "regions")
        for measure, group, value in group_values(groups_of(part))
        for line in part.lines
        for point in _points(line, "regions", "regions", "value", value)
    ]
    return Table(
        "groups",
        "Groups of cases: Δ = Σ |Dice of all - Dice of a group|, ESSP = Dice of all / (1 + Δ), the largest gap between "
        "the means of two groups; for each group the mean Dice of its test cases, its share of the training set, and "
        "the weight by which its scores were multiplied where the strategy weights them. "
        "A class that is neither in a case's label nor in its prediction is left out, but is Dice 1 in 'Δ, absent as "
        "1'. "
        "Compare Δ and ESSP only between campaigns with the same number of groups. " + INTERVALS,
        rows,
        digits={"regions": 0},
    )


def _axes_and_lines(compared: Sequence[Comparison]) -> Iterator[tuple[Comparison, Comparison, str, Line]]:
    """Yield each comparison, its part that shares an axis, the axis, and a line."""
    for comparison in compared:
        for axis in AXES:
            for part in by_axis(comparison, axis):
                yield from ((comparison, part, axis, line) for line in part.lines)


def _class_points(line: Line, name: str) -> Iterator[Row]:
    curve = line_curve(line, "regions", class_hd95(name))
    hd95_mm = dict(zip(curve.budget_P.tolist(), curve.mean_P.tolist(), strict=True))
    for point in _points(line, "regions", "regions", "dice", class_dice(name)):
        runs = point.pop("runs")
        yield point | {"hd95_mm": hd95_mm.get(float(point["regions"])), "runs": runs}


def _short(x: float) -> float | int:
    return int(x) if x.is_integer() else x


def _points(line: Line, axis: str, budget: str, name: str, value: Value = dice) -> Iterator[Row]:
    curve = line_curve(line, axis, value)
    for x, mean, low, high in zip(curve.budget_P, curve.mean_P, curve.low_P, curve.high_P, strict=True):
        interval = None if np.isnan(low) else (float(low), float(high))
        yield {budget: _short(float(x)), name: float(mean), **interval_columns(interval), "runs": curve.n}
