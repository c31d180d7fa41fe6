"""The tables of the comparison, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from evidence_cells import Row
from evidence_measures import (
    COSTS,
    PERCENTS,
    Curves,
    areas_against,
    foreground_efficiency,
    of_whole_pool,
    paired,
    turned,
)
from evidence_tests import ALPHA, Versus, Without, against, penalties

from nnunet_al.evaluation.budget import Interval, as_curve, budget_to_reach, mean_and_interval

ABSENT = "-"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def strategies_of(campaigns: Sequence[Curves], order: Sequence[str] = ()) -> list[str]:
    """Return the strategies, those of ``order`` first and in that order."""
    known = {one.strategy for one in campaigns}
    return [*(name for name in order if name in known), *sorted(known - set(order))]


def complete_table(campaigns: Sequence[Curves], rows: Sequence[Row], order: Sequence[str]) -> str:
    """Return how many seeds of each strategy and set are complete, and the models of the whole pool."""
    datasets = datasets_of(rows)
    lines = []
    for strategy in strategies_of(campaigns, order):
        seeds = {d: sorted(c.seed for c in campaigns if (c.dataset, c.strategy) == (d, strategy)) for d in datasets}
        lines.append([f"`{strategy}`", *(", ".join(map(str, seeds[dataset])) or ABSENT for dataset in datasets)])
    whole = [sorted({row["seed"] for row in rows if (row["dataset"], row["kind"]) == (d, "full")}) for d in datasets]
    lines.append(["whole pool", *(", ".join(map(str, seeds)) or ABSENT for seeds in whole)])
    return markdown(["seeds that are complete", *datasets], lines)


def whole_pool_table(rows: Sequence[Row]) -> str:
    """Return what the model of each set's whole pool reaches, and the regions of a budget."""
    lines = []
    for dataset in datasets_of(rows):
        own = [row for row in rows if (row["dataset"], row["kind"]) == (dataset, "full")]
        compared = [row for row in rows if (row["dataset"], row["kind"]) == (dataset, "")]
        if not own:
            continue
        dice, distance = ([row[name] for row in own] for name in ("dice", "hd95_mm"))
        budgets = ", ".join(str(budget) for budget in sorted({row["budget"] for row in compared})) or ABSENT
        cells = [mean_text(dice), mean_text(distance, 2), str(len(own)), own[0]["unit"], budgets]
        lines.append([dataset, *cells])
    return markdown(["set", "Dice, whole pool", "HD95 (mm)", "seeds", "unit", "budget a round"], lines)


def length_table(rows: Sequence[Row]) -> str:
    """Return the Dice of each set's trainings beside that of trainings three times as long."""
    lines = []
    for dataset in datasets_of(rows):
        for kind, longer in (("", "longer"), ("full", "full_longer")):
            of = {name: _by_seed_and_round(rows, dataset, name) for name in (kind, longer)}
            for key in sorted(of[kind].keys() & of[longer].keys()):
                short, long = of[kind][key], of[longer][key]
                what = "whole pool" if kind else f"round {key[1]}"
                lines.append([dataset, str(key[0]), what, f"{short:.3f}", f"{long:.3f}", f"{short - long:+.3f}"])
    return markdown(["set", "seed", "model", "Dice", "three times as long", "difference"], lines) if lines else ""


def pilot_table(rows: Sequence[Row]) -> str:
    """Return the last Dice of random draws by budget, and its share of that of the whole pool."""
    whole, lines = of_whole_pool(rows), []
    pilots = [row for row in rows if row["kind"].startswith("pilot")]
    for key in sorted({(row["dataset"], row["budget"], row["seed"]) for row in pilots}):
        own = [row for row in pilots if (row["dataset"], row["budget"], row["seed"]) == key]
        last = max(own, key=lambda row: row["round"])
        share = f"{last['dice'] / whole[key[0]]:.1%}" if key[0] in whole else ABSENT
        lines.append([*map(str, key), str(last["regions"]), f"{last['dice']:.3f}", share])
    return markdown(["set", "budget", "seed", "regions", "last Dice", "of the whole pool"], lines) if lines else ""


def curve_table(campaigns: Sequence[Curves], dataset: str, order: Sequence[str], measure: str, digits: int) -> str:
    """Return a measure of each strategy on one set, over the regions that models were trained on."""
    own = [one for one in campaigns if one.dataset == dataset]
    rounds = range(max(len(one.rows) for one in own))
    head = ["strategy", "seeds", *(_joined(sorted({int(one.rows[k]["regions"]) for one in own})) for k in rounds)]
    lines = []
    for strategy in strategies_of(own, order):
        values_S_R = np.array([one.of(measure) for one in own if one.strategy == strategy])
        cells = [mean_text(values_S_R[:, k], digits) for k in rounds]
        lines.append([f"`{strategy}`", str(len(values_S_R)), *cells])
    return markdown(head, lines)


def measure_table(campaigns: Sequence[Curves], rows: Sequence[Row], dataset: str, order: Sequence[str]) -> str:
    """Return area, last Dice, needed regions and foreground efficiency of each strategy on one set."""
    own = [one for one in campaigns if one.dataset == dataset]
    full, foreground = of_whole_pool(rows).get(dataset), of_whole_pool(rows, "foreground_voxels").get(dataset)
    head = ["strategy", "area", "area without first", "last Dice"]
    head += [f"regions to {percent} %" for percent in PERCENTS] + ["foreground efficiency", "Δ", "ESSP"]
    lines = []
    for strategy in strategies_of(own, order):
        some = [one for one in own if one.strategy == strategy]
        cells = [mean_text([one.area for one in some], interval=True)]
        cells += [mean_text([one.area_without_first for one in some]), mean_text([one.final for one in some])]
        cells += [ABSENT if full is None else _needed(some, full * percent / 100) for percent in PERCENTS]
        known = full is not None and foreground is not None
        rates = [foreground_efficiency(one, full, foreground) for one in some] if known else []
        cells.append(mean_text([rate for rate in rates if math.isfinite(rate)], 1))
        cells += [
            mean_text([value for one in some if math.isfinite(value := one.of(n)[-1])]) for n in ("delta", "essp")
        ]
        lines.append([f"`{strategy}`", *cells])
    return markdown(head, lines)


def cost_table(campaigns: Sequence[Curves], order: Sequence[str], other: str, without: Without) -> str:
    """Return how areas against each cost differ from those of another strategy, pooled over sets and seeds."""
    lines: dict[str, list[str]] = {}
    for cost in COSTS:
        values = turned(areas_against(campaigns, cost))
        for one in against(other, values, strategies_of(campaigns, order), without):
            lines.setdefault(one.strategy, []).append(f"{one.mean:+.4f} ({p_text(one.p_holm)})")
    rows = [[f"`{strategy}`", *cells] for strategy, cells in lines.items() if len(cells) == len(COSTS)]
    return markdown(["strategy", *COSTS.values()], rows) if rows else ""


def versus_table(found: Sequence[Versus]) -> str:
    """Return the pooled tests of one opponent, the best first."""
    datasets = sorted({dataset for one in found for dataset in one.mean_of_set})
    lines = []
    for one in sorted(found, key=lambda one: (-one.mean, one.strategy)):
        of_sets = [ABSENT if math.isnan(mean := one.mean_of_set[d]) else f"{mean:+.4f}" for d in datasets]
        tests = [p_text(one.p), p_text(one.p_holm), "yes" if one.beats else "no"]
        lines.append([f"`{one.strategy}`", str(one.blocks), interval_text(one.mean, one.interval), *of_sets, *tests])
    head = ["strategy", "pairs", "difference (95 %)", *datasets, "p", "p, Holm", "beats"]
    return markdown(head, lines) if lines else ""


def penalty_table(campaigns: Sequence[Curves]) -> str:
    """Return the penalty matrix: percentage of cells in which the row beats the column."""
    matrix = penalties(campaigns)
    if not matrix.cells_S_S.any():
        return ""
    means_S = matrix.column_means_S
    order = [int(index) for index in np.argsort(means_S, kind="stable") if math.isfinite(means_S[index])]

    def percent(value: float) -> str:
        return ABSENT if math.isnan(value) else f"{100 * value:.0f}"

    lines = []
    for i in order:
        cells = [ABSENT if i == j else percent(float(matrix.share_S_S[i, j])) for j in order]
        lines.append([f"`{matrix.names[i]}`", *cells])
    lines.append(["column mean", *(percent(float(means_S[index])) for index in order)])
    return markdown(["beats \\ is beaten", *(f"`{matrix.names[index]}`" for index in order)], lines)


def area_versus(campaigns: Sequence[Curves], order: Sequence[str], other: str, without: Without) -> list[Versus]:
    """Compare the areas of all strategies with those of another one, ``without`` the blocks they were chosen on."""
    values = paired(campaigns, lambda one: one.area)
    return against(other, values, strategies_of(campaigns, order), without)


def verdict(found: Sequence[Versus], other: str) -> str:
    """Say in one sentence which strategies beat another one."""
    winners = [f"`{one.strategy}`" for one in found if one.beats]
    sets = ", ".join(sorted({dataset for one in found for dataset in one.mean_of_set}))
    rule = f"(p < {ALPHA} after Holm over {len(found)} strategies, and better in the mean on each set: {sets})"
    return f"{', '.join(winners) or 'No strategy'} {'beat' if len(winners) > 1 else 'beats'} `{other}` {rule}."


def datasets_of(rows: Sequence[Row]) -> list[str]:
    """Return the sets, sorted."""
    return sorted({row["dataset"] for row in rows})


def mean_text(values: Sequence[float] | np.ndarray, digits: int = 3, interval: bool = False) -> str:
    """Return a mean, with its 95 % interval over seeds where that is asked for and there are several."""
    if not len(values) or not np.isfinite(values).all():
        return ABSENT
    mean, bounds = mean_and_interval(values)
    if not interval or bounds is None:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ({bounds[0]:.{digits}f} to {bounds[1]:.{digits}f})"


def interval_text(mean: float, interval: Interval | None) -> str:
    """Return a difference with its interval."""
    return f"{mean:+.4f}" + ("" if interval is None else f" ({interval[0]:+.4f} to {interval[1]:+.4f})")


def p_text(p: float) -> str:
    """Return a p value with two digits that count."""
    return f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def _needed(some: Sequence[Curves], target: float) -> str:
    """Return the regions that the mean curve needs, and how many of the seeds reach the target themselves."""
    budget_P = some[0].curve()[0]
    mean_P = np.mean([np.interp(budget_P, *one.curve()) for one in some], axis=0)
    needed = budget_to_reach(as_curve(budget_P, mean_P), target)
    reached = sum(one.needed(target) is not None for one in some)
    return ("not reached" if needed is None else f"{needed:.0f}") + f" ({reached} of {len(some)})"


def _by_seed_and_round(rows: Sequence[Row], dataset: str, kind: str) -> dict[tuple[int, int], float]:
    own = [row for row in rows if (row["dataset"], row["kind"], row["strategy"]) == (dataset, kind, "random")]
    return {(row["seed"], row["round"]): row["dice"] for row in own}


def _joined(numbers: Sequence[int]) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
