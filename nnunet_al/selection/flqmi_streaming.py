"""Greedy maximisation of FLQMI on the rows of a kernel, with nothing of the kernel's size beside it."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from nnunet_al.selection.selection import Selection

_TILE_ELEMENTS = 1 << 21
_FIRST_BLOCK = 8


class KernelRows(Protocol):
    """A kernel (N, Q) by its rows: an array, a file mapped to memory, or rows computed when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and Q."""
        ...

    def __getitem__(self, indices: np.ndarray, /) -> np.ndarray:
        """Return the rows (len(indices), Q)."""
        ...


def sample_size(count: int, budget: int, epsilon: float) -> int:
    """Return the number of candidates a step of stochastic greedy: floor(N/B ln(1/ε)), at least 1."""
    return max(1, math.floor(count / max(budget, 1) * math.log(1 / epsilon)))


def streaming_greedy(
    kernel_N_Q: KernelRows,
    multiplicities_Q: np.ndarray,
    budget: int,
    eta: float,
    candidates: int | None,
    rng: np.random.Generator,
) -> Selection:
    """Add ``budget`` times the candidate with the largest gain; ties go to the lowest index.

    The gain of region a given A is Σ_q m_q max(0, S_aq - max_{b∈A} S_bq) + η max(0, max_q S_aq). It can only fall
    while A grows, so a gain seen earlier bounds today's, and a candidate is looked at again only if its bound reaches
    the best gain of the step. The result is that of evaluating all candidates: each term, and with it the sum,
    which numpy adds in one order for every row, falls in floating point too.

    Parameters
    ----------
    kernel_N_Q, multiplicities_Q, budget, eta, rng
        as in ``flqmi.flqmi_gain_order``.
    candidates : int or None
        number of random candidates a step, at least 1 and capped by what remains; None looks at all.
    """
    count = kernel_N_Q.shape[0]
    gains = _Gains(kernel_N_Q, np.asarray(multiplicities_Q, dtype=np.float64), eta)
    remaining_N = np.ones(count, dtype=bool)
    picked, worth = [], []
    for _ in range(min(max(budget, 0), count)):
        pool = np.flatnonzero(remaining_N)
        if candidates is not None and candidates < len(pool):
            pool = rng.choice(pool, size=candidates, replace=False, shuffle=False)
        index, gain = gains.best_of(pool)
        gains.add(index)
        remaining_N[index] = False
        picked.append(index)
        worth.append(gain)
    return Selection(np.array(picked), np.array(worth))


class _Gains:
    """Marginal gains given what was chosen so far: bounds of all, exact values of those that matter."""

    def __init__(self, kernel_N_Q: KernelRows, weights_Q: np.ndarray, eta: float) -> None:
        self._kernel_N_Q = kernel_N_Q
        self._weights_Q = weights_Q
        count, queries = kernel_N_Q.shape
        assert weights_Q.shape == (queries,)
        self._tile = max(1, _TILE_ELEMENTS // max(queries, 1))
        self._covered_Q = np.zeros(queries)
        self._relevance_N = np.zeros(count)
        self._bounds_N = np.zeros(count)
        for start in range(0, count, self._tile):
            indices = np.arange(start, min(start + self._tile, count))
            rows = self._rows(indices)
            self._relevance_N[indices] = eta * rows.max(axis=1, initial=0.0)
            self._bounds_N[indices] = self._gains(rows, indices)

    def best_of(self, pool: np.ndarray) -> tuple[int, float]:
        """Return the index in ``pool`` with the largest gain, and that gain."""
        order = pool[np.lexsort((pool, -self._bounds_N[pool]))]
        best, best_gain = -1, -math.inf
        start, block = 0, min(_FIRST_BLOCK, self._tile)
        while start < len(order):
            indices = order[start : start + block]
            bounds = self._bounds_N[indices]
            # sorted by bounds: what follows the first hopeless candidate is hopeless too
            indices = indices[(bounds > best_gain) | ((bounds == best_gain) & (indices < best))]
            if len(indices) == 0 and bounds[0] < best_gain:
                break
            if len(indices):
                gains = self._gains(self._rows(indices), indices)
                self._bounds_N[indices] = gains
                winner = np.lexsort((indices, -gains))[0]
                if (-gains[winner], indices[winner]) < (-best_gain, best):
                    best, best_gain = int(indices[winner]), float(gains[winner])
            start, block = start + block, min(2 * block, self._tile)
        return best, best_gain

    def add(self, index: int) -> None:
        """Count a region as chosen."""
        np.maximum(self._covered_Q, self._rows(np.array([index]))[0], out=self._covered_Q)

    def _rows(self, indices: np.ndarray) -> np.ndarray:
        # the one place that reads the kernel; order C, because numpy's order of adding follows the order in memory
        return np.asarray(self._kernel_N_Q[indices], dtype=np.float64, order="C")

    def _gains(self, rows: np.ndarray, indices: np.ndarray) -> np.ndarray:
        terms = rows - self._covered_Q
        np.maximum(terms, 0, out=terms)
        terms *= self._weights_Q
        return terms.sum(axis=1) + self._relevance_N[indices]
