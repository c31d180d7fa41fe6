"""How long the stages of a round take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from nnunet_al.report.reading.lines import Comparison, Line
from nnunet_al.report.tables.table import Table

PARTS = {
    "preparing": ("labels", "fingerprint", "plan", "preprocess"),
    "training": ("train",),
    "evaluating": ("evaluate",),
    "scoring": ("score", "weigh"),
    "embedding": ("fisher", "embed"),
    "selecting": ("select",),
    "annotating": ("hand_out", "annotate"),
}
"""Parts of a round -> its stages; a stage that is in none is part of "other"."""

OTHER = "other"
_ABOUT = (
    "Means over the rounds that have a model and over runs, of what a stage took in the call that ended it; shards of "
    "the pool are summed. Models that were taken over from another campaign count in no mean of training. The time "
    "that readers take between two calls is not in it."
)


def times(compared: Sequence[Comparison]) -> Table:
    """Return the seconds that each part of a round takes."""
    rows = []
    for comparison in compared:
        for line in comparison.lines:
            spent = dict.fromkeys([*PARTS, OTHER], 0.0)
            found = list(_stages(line))
            for stage, seconds in found:
                spent[part_of(stage)] += fmean(seconds)
            if found:
                rows.append(
                    {"dataset": comparison.title, "strategy": line.label, **spent, "total": sum(spent.values())}
                )
    names = [name for name in (*PARTS, OTHER) if any(row[name] for row in rows)]
    columns = ("dataset", "strategy", *names, "total")
    kept = [{name: row[name] for name in columns} for row in rows]
    return Table(
        "time", "Seconds a round, by what they are spent on. " + _ABOUT, kept, digits=dict.fromkeys(columns, 1)
    )


def stages(compared: Sequence[Comparison]) -> Table:
    """Return the seconds that each stage takes."""
    rows: list[dict[str, Any]] = [
        {
            "dataset": comparison.title,
            "strategy": line.label,
            "stage": stage,
            "part": part_of(stage),
            "seconds": fmean(seconds),
            "longest": max(seconds),
            "rounds": len(seconds),
        }
        for comparison in compared
        for line in comparison.lines
        for stage, seconds in _stages(line)
    ]
    return Table("stages", "Seconds a stage. " + _ABOUT, rows, digits={"seconds": 2, "longest": 2})


def part_of(stage: str) -> str:
    """Return the part of a round that a stage belongs to."""
    return next((part for part, names in PARTS.items() if stage in names), OTHER)


def _stages(line: Line) -> Iterator[tuple[str, list[float]]]:
    """Yield stages in the order of a round, with their seconds in each round of each run that has a model."""
    order = [stage for names in PARTS.values() for stage in names]
    rounds = [result.seconds for run in line.runs for result in run.rounds if result.number > 0]
    present = {stage for seconds in rounds for stage in seconds}
    for stage in [*order, *sorted(present - set(order))]:
        if stage in present:
            yield stage, [seconds[stage] for seconds in rounds if stage in seconds]
