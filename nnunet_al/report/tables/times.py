"""Tables of the time that the stages of a round take."""

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
"""Part of a round -> its stages; any other stage belongs to "other"."""

OTHER = "other"
_ABOUT = (
    "Means over runs and over the rounds that have a model, of the seconds of the call that completed a stage, summed "
    "over shards of the pool. Models that were taken over from another campaign do not count in the mean of training. "
    "Readers' time between two calls is not included."
)


def times(compared: Sequence[Comparison]) -> Table:
    """Return the mean seconds per round of each part of a round."""
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
    return Table("time", "Seconds per round, by part of the round. " + _ABOUT, kept, digits=dict.fromkeys(columns, 1))


def stages(compared: Sequence[Comparison]) -> Table:
    """Return the mean seconds per round of each stage."""
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
    return Table("stages", "Seconds per stage. " + _ABOUT, rows, digits={"seconds": 2, "longest": 2})


def part_of(stage: str) -> str:
    """Return the part of a round that a stage belongs to."""
    return next((part for part, names in PARTS.items() if stage in names), OTHER)


def _stages(line: Line) -> Iterator[tuple[str, list[float]]]:
    """Yield stages in the order of a round, each with its seconds in all rounds that have a model, over all runs."""
    order = [stage for names in PARTS.values() for stage in names]
    rounds = [result.seconds for run in line.runs for result in run.rounds if result.number > 0]
    present = {stage for seconds in rounds for stage in seconds}
    for stage in [*order, *sorted(present - set(order))]:
        if stage in present:
            yield stage, [seconds[stage] for seconds in rounds if stage in seconds]
