"""The table of standings: strategies at one budget, ranked and compared over the runs that they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_al.evaluation.budget import Interval, mean_and_interval
from nnunet_al.report.reading.lines import Comparison, Line, by_axis, overlapping
from nnunet_al.report.reading.round_values import DICE, Measure
from nnunet_al.report.tables.table import Table

INTERVALS = "Intervals are those of the mean over runs (folds and seeds), 95 %, by Student's t; a single run has none."

Row = dict[str, Any]
_Pair = tuple[int, int, frozenset[frozenset[str]]]
"""The key by which runs of two strategies are paired: fold, seed, and test cases of the rounds around the budget."""


def standings(compared: Sequence[Comparison], measure: Measure = DICE) -> Table:
    """Return a measure of each strategy at the last number of regions that all runs have reached, the best first.

    Strategies are ranked by the runs that all of them have; runs that a strategy lacks are named in ``lacks``. Lines
    whose budgets do not overlap are ranked apart.
    """
    rows = [
        row
        for comparison in compared
        for part in by_axis(comparison, "regions")
        for lines, (_, last) in overlapping(part, "regions")
        for row in _standing(lines, last, measure)
    ]
    about_common = ""
    if any(row["lacks"] for row in rows):
        about_common = (
            "Where strategies lack runs that others have, the rank is by the mean over the runs that all of them have. "
        )
    else:
        alone = {f"common_{measure.name}", "lacks"}
        rows = [{name: of for name, of in row.items() if name not in alone} for row in rows]
    words = measure.words[0].upper() + measure.words[1:]
    numbers = (measure.name, "low", "high", f"common_{measure.name}", "difference", "difference_low", "difference_high")
    return Table(
        f"standings{measure.suffix}",
        f"{words} at the largest number of annotated regions that all comparable runs of a dataset have "
        "reached, and the difference to the strategy at the top of the list, over the folds and seeds of both "
        f"strategies. {about_common}{INTERVALS}",
        rows,
        titles={f"common_{measure.name}": f"{measure.name.replace('_', ' ')} on common runs"},
        digits={**dict.fromkeys(numbers, measure.digits), "regions": 0},
    )


def interval_columns(interval: Interval | None, prefix: str = "") -> Row:
    """Return an interval as two columns, both None where there is no interval."""
    low, high = interval or (None, None)
    return {f"{prefix}low": low, f"{prefix}high": high}


def _standing(part: Comparison, budget: float, measure: Measure) -> list[Row]:
    reached = {line.label: values for line in part.lines if (values := _at(line, budget, measure))}
    if not reached:
        return []
    shared = set.intersection(*(set(values) for values in reached.values()))
    lacks = {label: _lacking(values, reached.values()) for label, values in reached.items()}
    ranked = {label: float(np.mean([values[pair] for pair in shared or values])) for label, values in reached.items()}
    order = sorted(ranked, key=lambda label: -measure.sign * ranked[label])
    rows = []
    for label in order:
        values, best = reached[label], reached[order[0]]
        mean, interval = mean_and_interval(list(values.values()))
        row = {"dataset": part.title, "strategy": label, "regions": budget, measure.name: mean}
        row |= interval_columns(interval) | {"runs": len(values)}
        row |= {f"common_{measure.name}": ranked[label] if shared else None, "lacks": lacks[label]}
        pairs = [pair for pair in values if pair in best] if label != order[0] else []
        difference, within = mean_and_interval([values[pair] - best[pair] for pair in pairs]) if pairs else (None, None)
        row |= {"difference": difference} | interval_columns(within, "difference_")
        rows.append(row | {"pairs": len(pairs) or None})
    return rows


def _at(line: Line, budget: float, measure: Measure) -> dict[_Pair, float]:
    """Return a measure of a line's runs at a budget, interpolated; runs whose rounds do not enclose it are left out."""
    found = {}
    for run in line.runs:
        known = {
            float(result.regions): result
            for result in run.evaluated
            if result.regions is not None and measure.value(result) is not None
        }
        if not known or not min(known) <= budget <= max(known):
            continue
        around = max(at for at in known if at <= budget), min(at for at in known if at >= budget)
        tested_on = frozenset(known[at].tested_on for at in around)
        regions_P = sorted(known)
        values_P = [float(measure.value(known[at]) or 0.0) for at in regions_P]
        found[run.decided.fold, run.decided.seed, tested_on] = float(np.interp(budget, regions_P, values_P))
    return found


def _lacking(values: Mapping[_Pair, float], all_values: Any) -> str:
    """Name the runs that other strategies have and this one lacks; "" where it lacks none."""
    own, lacking = {pair[:2] for pair in values}, {}
    for other in all_values:
        for fold, seed, tests in other:
            if (fold, seed, tests) not in values:
                with_others = " with the same test cases" if (fold, seed) in own else ""
                lacking[fold, seed] = f"fold {fold} seed {seed}{with_others}"
    return ", ".join(lacking[pair] for pair in sorted(lacking))
