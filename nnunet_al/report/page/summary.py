"""Who leads, in plain words: nothing is called a difference that its interval does not show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from nnunet_al.progress import count
from nnunet_al.report.reading.runs import Run
from nnunet_al.report.tables.table import Table

Row = Mapping[str, Any]


def what_there_is(runs: Sequence[Run]) -> str:
    """Return one sentence on the campaigns of the report."""
    strategies = list(dict.fromkeys(run.strategy for run in runs))
    datasets = list(dict.fromkeys(run.decided.dataset for run in runs))
    folds, seeds = ({getattr(run.decided, name) for run in runs} for name in ("fold", "seed"))
    rounds = [sum(result.complete for result in run.rounds) for run in runs]
    done = str(rounds[0]) if len(set(rounds)) == 1 else f"{min(rounds)} to {max(rounds)}"
    return (
        f"{count(len(runs), 'campaign')} on {_listed(datasets)}, with {_listed(strategies)}; "
        f"{count(len(folds), 'fold')}, {count(len(seeds), 'seed')}; complete rounds of each, round 0 included: {done}."
    )


def who_leads(standings: Table) -> list[str]:
    """Return sentences on the strategies of each dataset, from the rows of ``comparison_tables.standings``.

    A strategy is said to do worse only where the 95 % interval of its paired difference to the leading one lies below
    0; each interval is its own, not corrected for their number.
    """
    if not standings.rows:
        return ["No round has been evaluated yet, so there is nothing to compare."]
    found = []
    for (dataset, _), rows in groupby(standings.rows, key=lambda row: (row["dataset"], row["regions"])):
        best, *others = rows
        found.append(_leader(dataset, best, others))
        if others:
            found += _others(best, others)
    return found


def what_it_takes(budget: Table, percent: int = 95) -> list[str]:
    """Return sentences on the regions that each strategy's mean curve takes to ``percent`` of the reference Dice."""
    chosen = [row for row in budget.rows if row["axis"] == "regions" and row["percent"] == percent]
    found = []
    for (dataset, target), rows in groupby(chosen, key=lambda row: (row["dataset"], row["target_dice"])):
        needs = list(rows)
        reached = sorted((row for row in needs if row["budget"] is not None), key=lambda row: row["budget"])
        never = [row["strategy"] for row in needs if row["budget"] is None]
        words = [f"by {_listed([_need(row) for row in reached])}"] if reached else []
        words += [f"not yet by {_listed(never)}"] if never else []
        found.append(
            f"{dataset}: {percent} % of the reference Dice, {target:.4f}, is reached {'; '.join(words)}. These are "
            "points of the mean curves, without intervals."
        )
    return found


def _leader(dataset: str, best: Row, others: Sequence[Row]) -> str:
    interval = (
        f"95 % interval {best['low']:.4f} to {best['high']:.4f} over {count(best['runs'], 'run')}"
        if best["low"] is not None
        else f"{count(best['runs'], 'run')}, so no interval"
    )
    leads = "has the highest mean foreground Dice" if others else "has a mean foreground Dice of"
    end = f": {best['dice']:.4f}" if others else f" {best['dice']:.4f}"
    alone = "" if others else "; there is no other strategy to compare it with"
    return (
        f"{dataset}, with {best['regions']:.0f} annotated regions: {best['strategy']} {leads}{end} ({interval}){alone}."
    )


def _others(best: Row, others: Sequence[Row]) -> list[str]:
    worse = [row for row in others if row["difference_high"] is not None and row["difference_high"] < 0]
    unclear = [row for row in others if row["difference_high"] is not None and row["difference_high"] >= 0]
    single = [row for row in others if row["difference_high"] is None]
    found = []
    if worse:
        differences = _listed([_difference(row) for row in worse])
        found.append(
            f"Worse than {best['strategy']}, where runs of the same fold and seed are compared and the interval of the "
            f"mean difference does not hold 0: {differences}."
        )
    if unclear:
        found.append(
            f"No difference to {best['strategy']} is shown where runs of the same fold and seed are compared (the "
            f"interval holds 0): {_listed([_difference(row) for row in unclear])}."
        )
    if single:
        found.append(
            f"Nothing can be said on {_listed([_without_interval(row) for row in single])}: there are not two common "
            "runs (fold and seed) to compare, and a difference of one may be chance."
        )
    return found


def _difference(row: Row) -> str:
    return (
        f"{row['strategy']} at {row['dice']:.4f} (difference {row['difference']:+.4f}, {row['difference_low']:+.4f} to "
        f"{row['difference_high']:+.4f}, {count(row['pairs'], 'pair')})"
    )


def _without_interval(row: Row) -> str:
    return f"{row['strategy']} at {row['dice']:.4f} ({count(row['runs'], 'run')})"


def _need(row: Row) -> str:
    at_once = ", its first model" if row["remark"] else ""
    return f"{row['strategy']} (with {row['budget']:.0f} regions{at_once})"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)
