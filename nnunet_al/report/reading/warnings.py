"""Warnings that a reader of the report needs before comparing numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_al.report.reading.lines import Comparison, Line, run_curve
from nnunet_al.report.reading.runs import Run
from nnunet_al.text import first_names

# decisions that may differ between the runs of one line
_OF_A_RUN = {
    *("fold", "seed", "pool_cases", "test_cases", "hashes", "plans", "groups"),
    *("withdrawn_cases", "left_out_cases", "pool_changes"),
}
_MOST_NAMED = 6


def all_warnings(runs: Sequence[Run], compared: Sequence[Comparison]) -> list[str]:
    """Return warnings of all runs, then of all lines.

    They concern files that could not be read, changed pools, and lines whose runs differ in settings or budgets.
    """
    of_runs = [f"{run.name}: {sentence}" for run in runs for sentence in (*run.warnings, *pool_warnings(run))]
    how_drawn = [
        f"{comparison.title}, {line.label}: {sentence}"
        for comparison in compared
        for line in comparison.lines
        for sentence in line_warnings(line)
    ]
    return of_runs + how_drawn


def pool_warnings(run: Run) -> list[str]:
    """Return a warning for each change of a campaign's cases."""
    found = []
    for change in run.decided.pool_changes:
        done = [f"{_some(change[word])} {word}" for word in ("added", "withdrawn") if change[word]]
        reason = f" ({change['reason']})" if change["reason"] else ""
        sentence = f"after {_until(change['round'])}, {' and '.join(done)}{reason}."
        if change["test"]:
            sentence += (
                f" This changes the test cases ({_some(change['test'])}), so that Dice coefficients from then on "
                "cannot be compared with those before."
            )
        found.append(sentence)
    return found


def line_warnings(line: Line) -> list[str]:
    """Return warnings where the runs of a line differ in settings, or do not reach the same budget."""
    found = []
    settings = [_settings(run) for run in line.runs]
    differing = sorted({name for other in settings for name in other if other[name] != settings[0].get(name)})
    if differing:
        found.append(
            f"the campaigns drawn into one line differ in {', '.join(differing)}; such campaigns should have different "
            "tags."
        )
    curves = {run.name: run_curve(run, "regions")[0] for run in line.runs}
    last = {name: float(regions_P[-1]) for name, regions_P in curves.items() if len(regions_P)}
    if last and min(last.values()) < max(last.values()):
        end = min(last.values())
        short = [name for name, regions in last.items() if regions == end]
        found.append(
            f"the mean line ends at {end:,.0f} annotated regions, where {_some(short)} {_ends(short)}; others have "
            f"reached up to {max(last.values()):,.0f}."
        )
    return found


def _until(number: int) -> str:
    return "the campaign had begun" if number == 0 else f"round {number - 1}"


def _ends(names: Sequence[str]) -> str:
    return "ends" if len(names) == 1 else "end"


def _some(names: Sequence[str]) -> str:
    return first_names(names, _MOST_NAMED, "; " if any(", " in name for name in names) else ", ")


def _settings(run: Run) -> Mapping[str, Any]:
    settings = {name: value for name, value in vars(run.decided).items() if name not in _OF_A_RUN}
    recipe = settings.pop("recipe")
    return settings | {f"{name} of the strategy": value for name, value in recipe.parameters.items()}
