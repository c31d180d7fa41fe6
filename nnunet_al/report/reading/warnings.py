"""Sentences on what one should know of runs before their numbers are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_al.progress import count
from nnunet_al.report.reading.lines import Comparison, Line, run_curve
from nnunet_al.report.reading.runs import Run

# what may differ between the runs of one line without making them another experiment
_OF_A_RUN = {
    *("fold", "seed", "pool_cases", "test_cases", "hashes", "plans", "groups"),
    *("withdrawn_cases", "left_out_cases", "pool_changes"),
}
_MOST_NAMED = 6


def remarks(runs: Sequence[Run], compared: Sequence[Comparison]) -> list[str]:
    """Return sentences on what could not be read, on changed pools, and on lines whose runs are less alike than a mean.

    The order is that of the runs, then that of the lines.
    """
    of_runs = [f"{run.name}: {sentence}" for run in runs for sentence in (*run.remarks, *pool_remarks(run))]
    of_lines = [
        f"{comparison.title}, {line.label}: {sentence}"
        for comparison in compared
        for line in comparison.lines
        for sentence in line_remarks(line)
    ]
    return of_runs + of_lines


def pool_remarks(run: Run) -> list[str]:
    """Return a sentence on each change of a campaign's cases."""
    found = []
    for change in run.decided.pool_changes:
        done = [f"{_some(change[word])} {word}" for word in ("added", "withdrawn") if change[word]]
        reason = f" ({change['reason']})" if change["reason"] else ""
        sentence = f"after {_until(change['round'])}, {' and '.join(done)}{reason}."
        if change["test"]:
            sentence += (
                f" This changes the test cases ({_some(change['test'])}), so that Dice coefficients from then on do "
                "not compare with those before."
            )
        found.append(sentence)
    return found


def line_remarks(line: Line) -> list[str]:
    """Return sentences on what makes the runs of a line less alike than one mean over them suggests."""
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
            f"come to up to {max(last.values()):,.0f}."
        )
    return found


def _until(number: int) -> str:
    return "the campaign had begun" if number == 0 else f"round {number - 1}"


def _ends(names: Sequence[str]) -> str:
    return "ends" if len(names) == 1 else "end"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    if more > 0:
        return f"{', '.join(names[:_MOST_NAMED])} and {count(more, 'other')}"
    return "; ".join(names) if any(", " in name for name in names) else ", ".join(names)


def _settings(run: Run) -> Mapping[str, Any]:
    settings = {name: value for name, value in vars(run.decided).items() if name not in _OF_A_RUN}
    recipe = settings.pop("recipe")
    return settings | {f"{name} of the strategy": value for name, value in recipe.parameters.items()}
