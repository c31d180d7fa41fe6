"""Measures of each campaign from its cells: areas under its curves, its last Dice, the budgets that it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from evidence_cells import Row
from scipy.optimize import minimize_scalar

from nnunet_al.evaluation.budget import Curve, area_under_curve, as_curve, budget_to_reach, common_range

COSTS = {"regions": "regions", "voxels": "voxels", "contour_mm": "contour length", "cases": "cases touched"}
PERCENTS = (90, 95, 100)
Block = tuple[str, int]
"""A set and a seed."""


@dataclass(frozen=True)
class Curves:
    """The rounds of one complete campaign, in order."""

    dataset: str
    strategy: str
    seed: int
    rows: tuple[Row, ...]

    @property
    def block(self) -> Block:
        """Its set and its seed."""
        return self.dataset, self.seed

    def of(self, name: str) -> np.ndarray:
        """Return a column, float64 (R,); NaN where a number is missing."""
        return np.array([np.nan if row[name] is None else row[name] for row in self.rows], np.float64)

    def curve(self, cost: str = "regions", measure: str = "dice") -> Curve:
        """Return a measure against a cost."""
        return as_curve(self.of(cost), self.of(measure))

    @cached_property
    def area(self) -> float:
        """The mean Dice between the first and the last number of regions."""
        budget_P, _ = self.curve()
        return area_under_curve(self.curve(), budget_P[0], budget_P[-1])

    @cached_property
    def area_without_first(self) -> float:
        """The same from the second model on, since the first one is that of all strategies."""
        budget_P, _ = self.curve()
        return area_under_curve(self.curve(), budget_P[1], budget_P[-1])

    @property
    def final(self) -> float:
        """The Dice of the last model."""
        return float(self.rows[-1]["dice"])

    def needed(self, target: float) -> float | None:
        """Return the regions with which the curve first reaches a Dice; None where it does not."""
        return budget_to_reach(self.curve(), target)


def complete_campaigns(rows: Sequence[Row]) -> list[Curves]:
    """Return the campaigns that have all rounds of their set, in the order of sets, strategies and seeds."""
    found: dict[tuple[str, str, int], dict[int, Row]] = {}
    for row in rows:
        if row["kind"] == "":
            found.setdefault((row["dataset"], row["strategy"], row["seed"]), {})[row["round"]] = row
    last = {dataset: max(row["round"] for row in rows if row["dataset"] == dataset) for dataset, _, _ in found}
    return [
        Curves(*key, tuple(of_round[number] for number in sorted(of_round)))
        for key, of_round in sorted(found.items())
        if sorted(of_round) == list(range(1, last[key[0]] + 1))
    ]


def of_whole_pool(rows: Sequence[Row], name: str = "dice") -> dict[str, float]:
    """Return the mean of a column over the models of each set's whole pool."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["kind"] == "full" and row[name] is not None:
            values.setdefault(row["dataset"], []).append(row[name])
    return {dataset: float(np.mean(some)) for dataset, some in values.items()}


def areas_against(campaigns: Sequence[Curves], cost: str) -> dict[Block, dict[str, float]]:
    """Return the area of each strategy against a cost, by block: between the costs that all of the block have reached.

    The first model and so the smallest cost is that of all. A block whose strategies have no cost in common beyond
    that has their Dice there.
    """
    by_block: dict[Block, dict[str, Curves]] = {}
    for one in campaigns:
        by_block.setdefault(one.block, {})[one.strategy] = one
    found = {}
    for block, members in by_block.items():
        shared = common_range([one.curve(cost) for one in members.values()])
        if shared is not None:
            found[block] = {name: area_under_curve(one.curve(cost), *shared) for name, one in members.items()}
    return found


def foreground_efficiency(curves: Curves, full_dice: float, pool_foreground: float) -> float:
    """Return γ of the least-squares fit D_full - (D_full - D_1) exp(-γ (f - f_1)) to the models of a campaign.

    f is the annotated part of the pool's foreground voxels, D_full the Dice of the whole pool: how fast the gap to it
    closes for each part of the foreground that is annotated. After the foreground efficiency of nnActive (Lüth et al.
    2025). Larger is better; NaN where the first model is as good as that of the whole pool.
    """
    share_R, dice_R = curves.of("foreground_voxels") / pool_foreground, curves.of("dice")
    gap = full_dice - dice_R[0]
    if gap <= 0 or share_R[-1] <= share_R[0]:
        return float("nan")
    more_R = share_R - share_R[0]

    def misfit(log_rate: float) -> float:
        return float(((full_dice - gap * np.exp(-np.exp(log_rate) * more_R) - dice_R) ** 2).sum())

    grid = np.linspace(np.log(1e-3), np.log(1e5), 400)
    best = int(np.argmin([misfit(rate) for rate in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    return float(np.exp(minimize_scalar(misfit, bounds=bounds, method="bounded", options={"xatol": 1e-10}).x))


def paired(campaigns: Sequence[Curves], value: Callable[[Curves], float]) -> dict[str, dict[Block, float]]:
    """Return a measure of each campaign: strategy -> block -> value."""
    found: dict[str, dict[Block, float]] = {}
    for one in campaigns:
        found.setdefault(one.strategy, {})[one.block] = value(one)
    return found


def turned(of_blocks: Mapping[Block, Mapping[str, float]]) -> dict[str, dict[Block, float]]:
    """Return block -> strategy -> value as strategy -> block -> value."""
    found: dict[str, dict[Block, float]] = {}
    for block, values in of_blocks.items():
        for strategy, value in values.items():
            found.setdefault(strategy, {})[block] = value
    return found
