"""Which campaigns are drawn into one line, which lines belong into one picture, and their mean curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunet_al.evaluation.budget import Curve, as_curve, half_width
from nnunet_al.report.drawing.learning_curves import mean_curve
from nnunet_al.report.reading.round_values import Value, dice
from nnunet_al.report.reading.runs import Run

AXES = {
    "regions": "annotated regions",
    "voxels": "annotated voxels",
    "foreground_voxels": "annotated foreground voxels",
    "contour_mm": "length of annotated contours [mm]",
    "minutes": "readers' time [minutes]",
}
"""What a model was trained on, as a field of ``RoundResult`` -> in words."""

_AMOUNTS = {"contour_mm": "mm of annotated contours", "minutes": "minutes of readers' time"}

_OF_A_LINE = ("configuration", "unit", "tag")
# what may differ between the runs of one line without making them another experiment
_OF_A_RUN = {
    *("fold", "seed", "pool_cases", "test_cases", "hashes", "plans", "groups"),
    *("withdrawn_cases", "left_out_cases", "pool_changes"),
}


@dataclass(frozen=True)
class Line:
    """Runs (folds x seeds) of one strategy that are alike in all else, and what they are called in pictures."""

    label: str
    runs: tuple[Run, ...]

    @property
    def unit(self) -> str:
        """What one annotation is: "patch", "slice" or "case"."""
        return self.runs[0].decided.unit


@dataclass(frozen=True)
class Comparison:
    """Lines that belong into one picture: their models were tested on the same cases of one dataset."""

    title: str
    dataset: str
    test: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class IntervalCurve:
    """Mean over ``n`` runs at P budgets, and its 95 % interval over runs by Student's t; each ``(P,)``.

    ``low_P`` and ``high_P`` are NaN for a single run, of which nothing says how sure it is.
    """

    budget_P: np.ndarray  # noqa: N815
    mean_P: np.ndarray  # noqa: N815
    low_P: np.ndarray  # noqa: N815
    high_P: np.ndarray  # noqa: N815
    n: int

    def __len__(self) -> int:
        """Return the number of budgets."""
        return len(self.budget_P)


def amount(budget: float, axis: str) -> str:
    """Return so much of a budget in words: "60 annotated regions", "1,750 mm of annotated contours"."""
    return f"{budget:,.0f} {_AMOUNTS.get(axis, AXES[axis])}"


def comparisons(runs: Sequence[Run]) -> list[Comparison]:
    """Sort runs into lines, and lines into comparisons, in the order in which they come.

    One line holds the runs that agree in dataset, configuration, unit, test cases (``test``), tag and strategy. It is
    called by its strategy, and by what of the others differs between the lines of the dataset.
    """
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
    tests: dict[str, set[str]] = {}
    for dataset, test in found:
        tests.setdefault(dataset, set()).add(test)
    return [
        Comparison(dataset if len(tests[dataset]) == 1 else f"{dataset}, tested on {_TESTS[test]}", dataset, test, of)
        for (dataset, test), of in ((key, tuple(members)) for key, members in found.items())
    ]


_TESTS = {"fold": "the fold's validation cases", "ts": "imagesTs", "none": "nothing"}


def _word(name: str, value: str | None) -> str:
    if name == "tag":
        return f"tag {value}" if value else ""
    return f"unit {value}" if name == "unit" else str(value)


def by_axis(comparison: Comparison, axis: str) -> list[Comparison]:
    """Return what can be drawn against one axis: a region is a case here and a patch there, so units are kept apart."""
    units = list(dict.fromkeys(line.unit for line in comparison.lines))
    if axis != "regions" or len(units) < 2:
        return [comparison]
    return [
        Comparison(
            f"{comparison.title}, unit {unit}",
            comparison.dataset,
            comparison.test,
            tuple(line for line in comparison.lines if line.unit == unit),
        )
        for unit in units
    ]


def run_curve(run: Run, axis: str, value: Value = dice) -> Curve:
    """Return a value of a run's rounds against what their models were trained on; rounds without either are left out.

    It may be without a point.
    """
    pairs = [(getattr(result, axis), value(result)) for result in run.rounds]
    known = [(float(budget), float(reached)) for budget, reached in pairs if budget is not None and reached is not None]
    return as_curve([budget for budget, _ in known], [reached for _, reached in known])


def run_curves(line: Line, axis: str, value: Value = dice) -> list[Curve]:
    """Return the curves of a line's runs, less those without a point."""
    curves = [run_curve(run, axis, value) for run in line.runs]
    return [curve for curve in curves if len(curve[0])]


def line_curve(line: Line, axis: str, value: Value = dice) -> IntervalCurve:
    """Return the mean of a line's runs with its 95 % interval.

    Runs are interpolated and cut to the budgets that all of them have reached, as in ``curves.mean_curve``; the curve
    may be without a point.
    """
    mean = mean_curve(run_curves(line, axis, value))
    half_P = np.asarray(half_width(mean.sd, mean.n_runs)) if mean.n_runs > 1 else np.full(len(mean.dice), np.nan)
    return IntervalCurve(mean.annotated, mean.dice, mean.dice - half_P, mean.dice + half_P, mean.n_runs)


def known_axes(comparison: Comparison) -> list[str]:
    """Return the axes against which there is at least one round."""
    return [axis for axis in AXES if any(run_curves(line, axis) for line in comparison.lines)]


def classes_of(comparison: Comparison) -> list[str]:
    """Return the classes of the metrics, in their order."""
    runs = [run for line in comparison.lines for run in line.runs]
    return list(dict.fromkeys(name for run in runs for result in run.rounds for name in result.dice_of_class))


def groups_of(comparison: Comparison) -> list[str]:
    """Return the groups of cases of any campaign, sorted."""
    rounds = [result for line in comparison.lines for run in line.runs for result in run.rounds]
    return sorted({name for result in rounds if result.fairness for name in result.fairness.by_group})


def line_remarks(comparison: Comparison) -> list[str]:
    """Return sentences on what makes the runs of a line less alike than one mean over them suggests."""
    remarks = []
    for line in comparison.lines:
        where = f"{comparison.title}, {line.label}"
        settings = [_settings(run) for run in line.runs]
        differing = sorted({name for other in settings for name in other if other[name] != settings[0].get(name)})
        if differing:
            remarks.append(
                f"{where}: the campaigns drawn into one line differ in {', '.join(differing)}; such campaigns should "
                "have different tags."
            )
        evaluated = {run.name: len(run.evaluated) for run in line.runs}
        most = max(evaluated.values())
        behind = [name for name, rounds in evaluated.items() if 0 < rounds < most]
        if behind:
            remarks.append(
                f"{where}: the mean line ends where the shortest campaign ends, and not all have {most} evaluated "
                f"rounds: {'; '.join(f'{name} has {evaluated[name]}' for name in behind)}."
            )
    return remarks


def _settings(run: Run) -> Mapping[str, Any]:
    settings = {name: value for name, value in vars(run.decided).items() if name not in _OF_A_RUN}
    recipe = settings.pop("recipe")
    return settings | {f"{name} of the strategy": value for name, value in recipe.parameters.items()}
