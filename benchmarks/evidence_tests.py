"""Which strategy beats which: paired over sets and seeds, corrected for the number of strategies."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from evidence_measures import Block, Curves

from nnunet_al.evaluation.budget import Interval, mean_and_interval
from nnunet_al.evaluation.penalty import PenaltyMatrix, penalty_matrix
from nnunet_al.evaluation.permutation import paired_permutation_test

ALPHA = 0.05
Without = Mapping[str, Collection[Block]]
"""Strategies -> blocks on which they were chosen, and which therefore say nothing about them."""
_NOTHING: Without = MappingProxyType({})


@dataclass(frozen=True)
class Versus:
    """One strategy against another, over the blocks that both have.

    Attributes
    ----------
    mean, interval : of the differences, 95 % by Student's t; None for a single block
    mean_of_set : the mean difference on each set; NaN where the two have no block of it in common
    p, p_holm : of the paired permutation test, two-sided; after Holm over all strategies that were compared
    """

    strategy: str
    other: str
    blocks: int
    mean: float
    interval: Interval | None
    mean_of_set: dict[str, float]
    p: float
    p_holm: float

    @property
    def beats(self) -> bool:
        """Significant after Holm, and better on each set."""
        return self.p_holm < ALPHA and all(mean > 0 for mean in self.mean_of_set.values())


def against(
    other: str, values: Mapping[str, Mapping[Block, float]], strategies: Sequence[str], without: Without = _NOTHING
) -> list[Versus]:
    """Compare strategies with another one by values for each strategy and block."""
    found = []
    for strategy in strategies:
        left_out = {*without.get(strategy, ())}
        common = sorted((values.get(strategy, {}).keys() & values.get(other, {}).keys()) - left_out)
        if strategy == other or not common:
            continue
        differences = [values[strategy][block] - values[other][block] for block in common]
        of_set: dict[str, list[float]] = {dataset: [] for dataset, _ in sorted(values[other])}
        for (dataset, _), difference in zip(common, differences, strict=True):
            of_set.setdefault(dataset, []).append(difference)
        mean, interval = mean_and_interval(differences)
        means = {dataset: float(np.mean(some)) if some else float("nan") for dataset, some in of_set.items()}
        p = paired_permutation_test(differences, np.random.default_rng(0))
        found.append(Versus(strategy, other, len(common), mean, interval, means, p, p))
    corrected = holm([one.p for one in found])
    return [replace(one, p_holm=p) for one, p in zip(found, corrected, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values after Holm (1979): the k-th smallest of m times m - k + 1, not below those before, at most 1."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def penalties(campaigns: Sequence[Curves]) -> PenaltyMatrix:
    """Compare all pairs by the Dice of each set and round from the second model on, over the seeds."""
    cells: dict[tuple[str, int], dict[str, dict[int, float]]] = {}
    for one in campaigns:
        for row in one.rows[1:]:
            cells.setdefault((one.dataset, row["round"]), {}).setdefault(one.strategy, {})[one.seed] = row["dice"]
    return penalty_matrix(cells)
