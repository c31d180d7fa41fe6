"""Lines (the runs of one strategy), comparisons (the lines of one picture), and their mean curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from nnunet_al.evaluation.budget import Curve, as_curve, common_range, half_width
from nnunet_al.report.reading.round_values import Value, dice
from nnunet_al.report.reading.runs import Run

AXES = {
    "regions": "annotated regions",
    "pool_percent": "share of the pool's regions [%]",
    "voxels": "annotated voxels",
    "foreground_voxels": "annotated foreground voxels",
    "contour_mm": "length of annotated contours [mm]",
    "minutes": "readers' time [minutes]",
}
"""Fields of ``RoundResult`` that measure the size of the training set -> their names."""

_AMOUNTS = {
    "pool_percent": "% of the pool's regions",
    "contour_mm": "mm of annotated contours",
    "minutes": "minutes of readers' time",
}
IN_REGIONS = ("regions", "pool_percent")
"""Axes on which different units of annotation cannot be compared."""

_OF_A_LINE = ("configuration", "unit", "tag")


@dataclass(frozen=True)
class Line:
    """Runs (folds x seeds) of one strategy that agree in all other decisions, and their label in figures."""

    label: str
    runs: tuple[Run, ...]
    _curves: dict[tuple[str, Value], MeanCurve] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def unit(self) -> str:
        """The unit of annotation: "patch", "slice" or "case"."""
        return self.runs[0].decided.unit


@dataclass(frozen=True)
class Comparison:
    """Lines that can be drawn in one picture: their models were tested on the same cases of one dataset."""

    title: str
    dataset: str
    test: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class MeanCurve:
    """Mean over ``n`` runs at P budgets, and the standard deviation of the runs; each ``(P,)``.

    ``low_P`` and ``high_P`` are the ends of the mean's 95 % interval by Student's t; NaN for a single run, which has
    none.
    """

    budget_P: np.ndarray  # noqa: N815
    mean_P: np.ndarray  # noqa: N815
    sd_P: np.ndarray  # noqa: N815
    n: int

    def __len__(self) -> int:
        """Return the number of budgets."""
        return len(self.budget_P)

    @property
    def low_P(self) -> np.ndarray:  # noqa: N802
        """Lower end of the interval, ``(P,)``."""
        return self.mean_P - self._half_P()

    @property
    def high_P(self) -> np.ndarray:  # noqa: N802
        """Upper end of the interval, ``(P,)``."""
        return self.mean_P + self._half_P()

    def _half_P(self) -> np.ndarray:  # noqa: N802
        return np.asarray(half_width(self.sd_P, self.n)) if self.n > 1 else np.full(len(self), np.nan)


def mean_curve(runs: Sequence[Curve]) -> MeanCurve:
    """Average runs at all budgets at which any of them was evaluated.

    Runs are interpolated linearly, within the range that all of them cover, so that a run that is not finished shortens
    the mean line but does not bend it. The standard deviation is that of the sample (divided by n - 1), 0 for a single
    run.
    """
    if not runs:
        return MeanCurve(np.empty(0), np.empty(0), np.empty(0), 0)
    first, last = max(budget_P[0] for budget_P, _ in runs), min(budget_P[-1] for budget_P, _ in runs)
    points_P = np.unique(np.concatenate([budget_P for budget_P, _ in runs]))
    points_P = points_P[(points_P >= first) & (points_P <= last)]
    values = np.array([np.interp(points_P, budget_P, value_P) for budget_P, value_P in runs])
    sd_P = values.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros(len(points_P))
    return MeanCurve(points_P, values.mean(axis=0), sd_P, len(runs))


def amount(budget: float, axis: str) -> str:
    """Return a budget with its unit: "60 annotated regions", "1,750 mm of annotated contours"."""
    return f"{budget:,.{1 if axis == 'pool_percent' else 0}f} {_AMOUNTS.get(axis, AXES[axis])}"


def comparisons(runs: Sequence[Run]) -> list[Comparison]:
    """Group runs into lines, and lines into comparisons, in order of appearance.

    One line holds the runs that agree in dataset, configuration, unit, test cases (``test``), tag and strategy. Its
    label is the strategy, followed by those of the others that differ between the lines of the dataset. Campaigns that
    were trained on the whole pool are the reference, and in no line.
    """
    runs = [run for run in runs if not run.decided.full]
    lines: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        decided = run.decided
        key = (decided.dataset, decided.test, run.strategy, *(getattr(decided, name) for name in _OF_A_LINE))
        lines.setdefault(key, []).append(run)
    found: dict[tuple[str, str], list[Line]] = {}
    for (dataset, test, *_), members in lines.items():
        siblings = [run.decided for run in runs if run.decided.dataset == dataset]
        differing = [name for name in _OF_A_LINE if len({getattr(other, name) for other in siblings}) > 1]
        words = [_word(name, getattr(members[0].decided, name)) for name in differing]
        label = ", ".join([members[0].strategy, *(word for word in words if word)])
        found.setdefault((dataset, test), []).append(Line(label, tuple(members)))
    tests = Counter(dataset for dataset, _ in found)
    return [
        Comparison(dataset if tests[dataset] == 1 else f"{dataset}, tested on {_TESTS[test]}", dataset, test, tuple(of))
        for (dataset, test), of in found.items()
    ]


_TESTS = {"fold": "the fold's validation cases", "ts": "imagesTs", "none": "nothing"}


def _word(name: str, value: str | None) -> str:
    if name == "tag":
        return f"tag {value}" if value else ""
    return f"unit {value}" if name == "unit" else str(value)


def by_axis(comparison: Comparison, axis: str) -> list[Comparison]:
    """Return the parts that share one axis: against regions, lines of different units of annotation are kept apart."""
    units = list(dict.fromkeys(line.unit for line in comparison.lines))
    if axis not in IN_REGIONS or len(units) < 2:
        return [comparison]
    return [
        replace(
            comparison,
            title=f"{comparison.title}, unit {unit}",
            lines=tuple(line for line in comparison.lines if line.unit == unit),
        )
        for unit in units
    ]


def overlapping(comparison: Comparison, axis: str) -> list[tuple[Comparison, tuple[float, float]]]:
    """Return sets of lines that share a range of budgets, with that range; a line is in at most one set.

    Each set holds the lines whose range contains the budget that most of the remaining lines contain, the largest such
    budget. Lines whose runs have no budget in common are in no set. The largest set comes first.
    """
    spans = {line.label: span for line in comparison.lines if (span := line_range(line, axis)) is not None}
    found = []
    while spans:
        ends = sorted({end for _, end in spans.values()})
        best = max(ends, key=lambda end: (sum(low <= end <= high for low, high in spans.values()), end))
        chosen = {label: span for label, span in spans.items() if span[0] <= best <= span[1]}
        spans = {label: span for label, span in spans.items() if label not in chosen}
        lines = tuple(line for line in comparison.lines if line.label in chosen)
        between = (max(low for low, _ in chosen.values()), min(high for _, high in chosen.values()))
        found.append((replace(comparison, lines=lines), between))
    return sorted(found, key=lambda some: (-len(some[0].lines), some[1]))


def line_range(line: Line, axis: str) -> tuple[float, float] | None:
    """Return the range of budgets that all runs of a line cover; None where there is none."""
    return common_range(run_curves(line, axis))


def run_curve(run: Run, axis: str, value: Value = dice) -> Curve:
    """Return a value of a run's rounds against the size of their training sets; rounds that lack either are left out.

    The curve may have no point.
    """
    pairs = [(getattr(result, axis), value(result)) for result in run.rounds]
    known = [(float(budget), float(reached)) for budget, reached in pairs if budget is not None and reached is not None]
    return as_curve([budget for budget, _ in known], [reached for _, reached in known])


def run_curves(line: Line, axis: str, value: Value = dice) -> list[Curve]:
    """Return the curves of a line's runs, without empty ones."""
    curves = [run_curve(run, axis, value) for run in line.runs]
    return [curve for curve in curves if len(curve[0])]


def line_curve(line: Line, axis: str, value: Value = dice) -> MeanCurve:
    """Return the mean of a line's runs with its 95 % interval.

    Runs are interpolated and cut to the budgets that all of them have reached (`mean_curve`); the curve may have no
    point.
    """
    if (axis, value) not in line._curves:
        line._curves[axis, value] = mean_curve(run_curves(line, axis, value))
    return line._curves[axis, value]


def changes_of_tests(line: Line, axis: str) -> list[float]:
    """Return the budgets, sorted, at which any run of the line changes its test cases."""
    found: set[float] = set()
    for run in line.runs:
        pairs = [(result.tested_on, getattr(result, axis)) for result in run.evaluated]
        found |= {
            float(budget) for (before, _), (after, budget) in pairwise(pairs) if before != after and budget is not None
        }
    return sorted(found)


def known_axes(comparison: Comparison) -> list[str]:
    """Return the axes that are known for at least one round."""
    return [axis for axis in AXES if any(run_curves(line, axis) for line in comparison.lines)]


def classes_of(comparison: Comparison) -> list[str]:
    """Return the classes of the metrics, in the order of the metrics."""
    runs = [run for line in comparison.lines for run in line.runs]
    return list(dict.fromkeys(name for run in runs for result in run.rounds for name in result.dice_of_class))


def groups_of(comparison: Comparison) -> list[str]:
    """Return the groups of cases of all campaigns, sorted."""
    rounds = [result for line in comparison.lines for run in line.runs for result in run.rounds]
    return sorted({name for result in rounds if result.fairness for name in result.fairness.by_group})
