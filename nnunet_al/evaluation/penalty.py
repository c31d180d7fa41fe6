"""The pairwise penalty matrix: how often one strategy beats another significantly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import ttest_rel

Cell = Mapping[str, Mapping[Any, float]]
"""One dataset and round: strategy -> pair (fold, seed) -> Dice."""

_ROUNDING = 1e-12


@dataclass(frozen=True)
class PenaltyMatrix:
    """Numbers of cells in which one strategy beats another, and of cells in which they could be compared.

    Attributes
    ----------
    names : the S strategies
    wins_S_S : entry i, j is the number of cells in which i beats j
    cells_S_S : the number of cells in which both have at least two runs in common; symmetric, 0 on the diagonal
    too_few_S_S : the number of cells in which both were measured, but have fewer than two runs in common
    without_variance_S_S : the number of cells of ``cells_S_S`` in which all differences are equal, wins and ties
    """

    names: tuple[str, ...]
    wins_S_S: np.ndarray
    cells_S_S: np.ndarray
    too_few_S_S: np.ndarray
    without_variance_S_S: np.ndarray

    @property
    def share_S_S(self) -> np.ndarray:
        """Entry i, j: share of their common cells in which i beats j; 0 on the diagonal, NaN without such a cell."""
        share_S_S = np.full(self.wins_S_S.shape, np.nan)
        np.divide(self.wins_S_S, self.cells_S_S, out=share_S_S, where=self.cells_S_S > 0)
        np.fill_diagonal(share_S_S, 0.0)
        return share_S_S

    @property
    def column_means_S(self) -> np.ndarray:
        """Mean of each column: how often a strategy is beaten, so lower is better.

        As in Ash et al. (BADGE) and nnActive, the diagonal counts as 0: the largest mean of S strategies is (S - 1) /
        S. Pairs without a common cell are left out; NaN for a strategy without any common cell.
        """
        return np.where(self.cells_S_S.sum(axis=0) > 0, np.nanmean(self.share_S_S, axis=0), np.nan)


def penalty_matrix(cells: Mapping[Any, Cell], alpha: float = 0.05) -> PenaltyMatrix:
    """Compare all pairs of strategies in each cell by a two-sided paired t-test over their common runs.

    Strategy i beats j in a cell where p < alpha and the mean of its differences to j is positive (Ash et al. 2020, Ji
    et al. 2023). Not corrected for the number of tests: for equal strategies, each side wins about alpha / 2 of the
    cells by chance.

    Where all differences are equal, t is not defined. All 0 is a tie; all equal and not 0 is a win, which is the limit
    for vanishing variance (p tends to 0) and agrees with the code of Ash et al.; ``without_variance_S_S`` counts both.

    A cell is for example (dataset, round); a pair, for example (fold, seed), identifies runs of different strategies
    under the same conditions. Pairs of only one of two strategies are not used.
    """
    names = tuple(sorted({name for cell in cells.values() for name in cell}))
    index = {name: i for i, name in enumerate(names)}
    wins, compared, too_few, constant = (np.zeros((len(names), len(names)), dtype=np.int64) for _ in range(4))
    for cell in cells.values():
        for a, b in combinations(sorted(cell), 2):
            i, j = index[a], index[b]
            common = sorted(cell[a].keys() & cell[b].keys(), key=repr)  # sorted, so that the last digit is fixed
            if len(common) < 2:
                too_few[[i, j], [j, i]] += 1
                continue
            a_N, b_N = (np.array([cell[name][pair] for pair in common], dtype=np.float64) for name in (a, b))
            compared[[i, j], [j, i]] += 1
            constant[[i, j], [j, i]] += _equal(a_N - b_N)
            difference = _difference(a_N, b_N, alpha)
            wins[i, j] += difference > 0
            wins[j, i] += difference < 0
    return PenaltyMatrix(names, wins, compared, too_few, constant)


def _difference(a_N: np.ndarray, b_N: np.ndarray, alpha: float) -> float:
    """Return the mean of a - b where it differs significantly from 0, else 0."""
    mean = float((a_N - b_N).mean())
    if _equal(a_N - b_N):  # decided here, because scipy's result would depend on rounding errors
        return mean if abs(mean) > _ROUNDING else 0.0
    return mean if ttest_rel(a_N, b_N).pvalue < alpha else 0.0


def _equal(difference_N: np.ndarray) -> bool:
    return bool(np.ptp(difference_N) <= _ROUNDING)
