"""The summary in sentences; strategies are said to differ only where the interval of their difference shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from nnunet_al.report.reading.lines import Comparison, Line, by_axis, line_range
from nnunet_al.report.reading.runs import Run
from nnunet_al.report.tables.table import Table
from nnunet_al.text import count, joined

Row = Mapping[str, Any]


def campaigns_sentence(runs: Sequence[Run]) -> str:
    """Return one sentence on the campaigns of the report."""
    full = [run for run in runs if run.decided.full]
    runs = [run for run in runs if not run.decided.full] or runs
    strategies = list(dict.fromkeys(run.strategy for run in runs))
    datasets = list(dict.fromkeys(run.decided.dataset for run in runs))
    folds, seeds = ({getattr(run.decided, name) for run in runs} for name in ("fold", "seed"))
    rounds = [sum(result.complete for result in run.rounds) for run in runs]
    done = str(rounds[0]) if len(set(rounds)) == 1 else f"{min(rounds)} to {max(rounds)}"
    return (
        f"{count(len(runs), 'campaign')} on {joined(datasets)}, with {joined(strategies)}; "
        f"{count(len(folds), 'fold')}, {count(len(seeds), 'seed')}; complete rounds of each, round 0 included: {done}."
        + (f" {count(len(full), 'more campaign')} trained on the whole pool: the reference." if full else "")
    )


def ranking_sentences(standings: Table) -> list[str]:
    """Return sentences on the strategies of each dataset, from the rows of ``ranking.standings``.

    A strategy is called worse or better only where the 95 % interval of its paired difference to the one at the top
    excludes 0; intervals are not corrected for the number of comparisons. No strategy is called the best where some
    lack runs that others have.
    """
    found = []
    titles = [row["dataset"] for row in standings.rows]
    for (dataset, _), rows in groupby(standings.rows, key=lambda row: (row["dataset"], row["regions"])):
        best, *others = rows
        if others:
            found += [_leader(dataset, best, others), *_others(best, others)]
        else:
            found.append(_alone(dataset, best, titles.count(dataset) > 1))
    return found


def missing_sentences(compared: Sequence[Comparison]) -> list[str]:
    """Return sentences on strategies that have no Dice to compare, with the reason."""
    parts = [part for comparison in compared for part in by_axis(comparison, "regions")]
    why = {part.title: {line.label: reason for line in part.lines if (reason := _why_not(line))} for part in parts}
    all_reasons = {reason for of in why.values() for reason in of.values()}
    if len(all_reasons) == 1 and all(len(why[part.title]) == len(part.lines) for part in parts):
        (reason,) = all_reasons
        return [f"{reason[0].upper()}{reason[1:]}, so there is nothing to compare."]
    return [
        f"{title}, {joined([label for label, its in of.items() if its == reason])}: {reason}."
        for title, of in why.items()
        for reason in dict.fromkeys(of.values())
    ]


def budget_sentences(budget: Table, percent: int = 95) -> list[str]:
    """Return sentences on the regions that each strategy's mean curve needs for ``percent`` of the reference Dice."""
    chosen = [row for row in budget.rows if row["axis"] == "regions" and row["percent"] == percent]
    found = []
    for (dataset, target), rows in groupby(chosen, key=lambda row: (row["dataset"], row["target_dice"])):
        needs = list(rows)
        reached = sorted((row for row in needs if row["budget"] is not None), key=lambda row: row["budget"])
        never = [row["strategy"] for row in needs if row["budget"] is None]
        words = [f"is reached by {joined([_need(row) for row in reached])}"] if reached else []
        words += [f"{'' if reached else 'is '}not yet reached by {joined(never)}"] if never else []
        found.append(
            f"{dataset}: {percent} % of the reference Dice, {target:.4f}, {'; '.join(words)}. These are points of the "
            "mean curves, without intervals."
        )
    return found


def _why_not(line: Line) -> str:
    """Return why a line cannot be compared; "" where it can."""
    if any(run.evaluated for run in line.runs):
        return "" if line_range(line, "regions") else "the runs have no number of annotated regions in common"
    if any(run.decided.test_cases for run in line.runs):
        return "no round has been evaluated yet"
    return "there are no test cases, and no Dice coefficient will be known"


def _alone(dataset: str, row: Row, others_elsewhere: bool) -> str:
    why = (
        "no other strategy was trained on this number of regions"
        if others_elsewhere
        else "there is no other strategy to compare it with"
    )
    return (
        f"{dataset}, with {row['regions']:.0f} annotated regions: {row['strategy']} has a mean foreground Dice of "
        f"{row['dice']:.4f} ({_sure(row)}); {why}."
    )


def _leader(dataset: str, best: Row, others: Sequence[Row]) -> str:
    where = f"{dataset}, with {best['regions']:.0f} annotated regions"
    lacking = [f"{row['strategy']} lacks {row['lacks']}" for row in (best, *others) if row.get("lacks")]
    if lacking:
        means = [(row["strategy"], row["common_dice"]) for row in (best, *others) if row["common_dice"] is not None]
        words = f"over the runs that all have, the means are {joined([f'{n} {d:.4f}' for n, d in means])}"
        return (
            f"{where}, none is said to lead, since not all strategies have the same runs ({'; '.join(lacking)}); "
            f"{words if means else 'there is no run that all have'}."
        )
    equal = [row["strategy"] for row in others if _four(row["dice"]) == _four(best["dice"])]
    if equal:
        names = joined([best["strategy"], *equal])
        return f"{where}: {names} have the same mean foreground Dice, to four digits: {_four(best['dice'])}."
    return f"{where}: {best['strategy']} has the highest mean foreground Dice: {_four(best['dice'])} ({_sure(best)})."


def _four(value: float) -> str:
    return f"{value:.4f}"


def _sure(row: Row) -> str:
    runs = count(row["runs"], "run")
    if row["low"] is None:
        return f"{runs}, so no interval"
    return f"95 % interval {row['low']:.4f} to {row['high']:.4f} over {runs}"


def _others(best: Row, others: Sequence[Row]) -> list[str]:
    known = [row for row in others if row["difference_high"] is not None]
    worse = [row for row in known if row["difference_high"] < 0]
    better = [row for row in known if row["difference_low"] > 0]
    unclear = [row for row in known if row["difference_low"] <= 0 <= row["difference_high"]]
    single = [row for row in others if row["difference_high"] is None]
    paired = "where runs of the same fold and seed are compared"
    found = []
    for word, rows in (("Worse", worse), ("Better", better)):
        if rows:
            found.append(
                f"{word} than {best['strategy']}, {paired} and the interval of the mean difference does not hold 0: "
                f"{joined([_difference(row) for row in rows])}."
            )
    if unclear:
        found.append(
            f"No difference to {best['strategy']} is shown {paired} (the interval holds 0): "
            f"{joined([_difference(row) for row in unclear])}."
        )
    if single:
        found.append(
            f"Nothing can be said on {joined([_without_interval(row) for row in single])}: there are not two common "
            "runs (fold and seed) to compare, and a difference of one may be chance."
        )
    return found


def _difference(row: Row) -> str:
    dice = row["dice"] if row.get("common_dice") is None else row["common_dice"]
    return (
        f"{row['strategy']} at {dice:.4f} (difference {row['difference']:+.4f}, {row['difference_low']:+.4f} to "
        f"{row['difference_high']:+.4f}, {count(row['pairs'], 'pair')})"
    )


def _without_interval(row: Row) -> str:
    return f"{row['strategy']} at {row['dice']:.4f} ({count(row['runs'], 'run')})"


def _need(row: Row) -> str:
    at_once = ", its first model" if row["remark"] else ""
    return f"{row['strategy']} (with {row['budget']:.0f} regions{at_once})"
