"""Marginal gains of FLQMI: bounds of all candidates, exact values of those that can be the best."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nnunet_al.selection.kernel_rows import KernelRows, as_computed_rows

_TILE_ELEMENTS = 1 << 16  # in float64 a quarter of a core's cache
_READ_ELEMENTS = 1 << 20
_FIRST_READ = 8
_HALF_STEP = float(np.finfo(np.float32).eps) / 2
_TINY = float(np.finfo(np.float32).tiny)


class Gains:
    """What each region would add to the chosen ones, looked at only where it may be the most.

    The gain of region a given A is Σ_q m_q max(0, S_aq - max_{b∈A} S_bq) + η max(0, max_q S_aq). Gains are computed in
    float64, each row's sum in one order. Bounds come from float32 sums, which are quicker, raised by the most that
    rounding can have taken from them; they can only fall while A grows, and so do the gains: each term, and with it
    the sum, falls in floating point too. The best candidate is therefore that of computing all gains.

    Parameters
    ----------
    kernel_N_Q : KernelRows
        similarities.
    weights_Q : float64 array (Q,)
        m, not negative.
    eta : float
        η, not negative.
    """

    def __init__(self, kernel_N_Q: KernelRows, weights_Q: np.ndarray, eta: float) -> None:
        """Look at every row once."""
        self._kernel_N_Q = as_computed_rows(kernel_N_Q)
        count, queries = kernel_N_Q.shape
        assert weights_Q.shape == (queries,)
        self._weights_Q, self._single_weights_Q = weights_Q, weights_Q.astype(np.float32)
        self._covered_Q, self._single_covered_Q = np.zeros(queries), np.zeros(queries, dtype=np.float32)
        self._covered = False
        self._relevance_N, self._bounds_N = np.zeros(count), np.full(count, np.inf)
        self._tile = max(1, _TILE_ELEMENTS // max(queries, 1))
        self._terms = np.empty((self._tile, queries))
        self._single_terms = np.empty((self._tile, queries), dtype=np.float32)
        # n roundings take at most n u / (1 - n u) of a sum of what is not negative (Higham 2002, section 3.1)
        roundings = (queries + 8) * _HALF_STEP
        assert roundings < 0.5, "float32 cannot bound so long a sum"
        self._slack, self._lost = 1 + roundings / (1 - roundings), _TINY * (queries + float(weights_Q.sum()))

        def look(first: int, rows: np.ndarray) -> None:
            indices = np.arange(first, first + len(rows))
            for part in self._tiles(len(rows)):
                self._relevance_N[indices[part]] = eta * rows[part].max(axis=1, initial=0).astype(np.float64)
                self._lower_bounds(indices[part], rows[part])

        self._kernel_N_Q.scan(look, self._bounds_N)

    def take_best(self, pool: np.ndarray) -> tuple[int, float]:
        """Count the region in ``pool`` with the largest gain as chosen; return its index and that gain."""
        best = _Best()
        at_hand = self._kernel_N_Q.at_hand(pool)
        near, far = pool[at_hand], pool[~at_hand]
        for some in self._promising(near, best):
            rows = self._kernel_N_Q[near[some]]
            self._lower_bounds(near[some], rows)
            self._decide(near[some], rows, best)
        while len(far := far[best.may_lose_to(self._bounds_N[far], far)]):
            first = far[np.lexsort((far, -self._bounds_N[far]))[0]]
            together = self._kernel_N_Q.companions(int(first))
            rows = self._kernel_N_Q[together]
            self._lower_bounds(together, rows)
            mine = np.flatnonzero(np.isin(together, far))
            self._decide(together[mine], rows[mine], best)
            self._kernel_N_Q.keep(together, rows)
            far = far[~np.isin(far, together)]
        assert best.index >= 0, "a gain is not a number"
        self._bounds_N[best.index] = -np.inf
        self._covered = True
        np.maximum(self._covered_Q, best.row, out=self._covered_Q)
        self._single_covered_Q[:] = self._covered_Q
        # never above what is covered, where a kernel in float64 does not fit float32
        above = self._single_covered_Q > self._covered_Q
        self._single_covered_Q[above] = np.nextafter(self._single_covered_Q[above], np.float32(-np.inf))
        return best.index, best.gain

    def _promising(self, indices: np.ndarray, best: _Best) -> Iterator[np.ndarray]:
        """Yield positions in ``indices``, in the order of their bounds, as long as any may beat the best."""
        order = np.lexsort((indices, -self._bounds_N[indices]))
        largest = max(1, _READ_ELEMENTS // max(len(self._weights_Q), 1))
        start, size = 0, min(_FIRST_READ, largest)
        while start < len(order):
            some = order[start : start + size]
            bounds = self._bounds_N[indices[some]]
            promising = some[best.may_lose_to(bounds, indices[some])]
            # sorted by bounds: what follows the first hopeless candidate is hopeless too
            if len(promising) == 0 and bounds[0] < best.gain:
                return
            if len(promising):
                yield promising
            start, size = start + size, min(2 * size, largest)

    def _lower_bounds(self, indices: np.ndarray, rows: np.ndarray) -> None:
        for part in self._tiles(len(indices)):
            terms = self._single_terms[: len(rows[part])]
            if self._covered:
                np.subtract(rows[part], self._single_covered_Q, out=terms, casting="same_kind")
                np.maximum(terms, 0, out=terms)
            else:
                np.maximum(rows[part], 0, out=terms, casting="same_kind")
            sums = np.einsum("nq,q->n", terms, self._single_weights_Q).astype(np.float64)
            bounds = (sums + self._lost + self._relevance_N[indices[part]]) * self._slack
            self._bounds_N[indices[part]] = np.minimum(self._bounds_N[indices[part]], bounds)

    def _decide(self, indices: np.ndarray, rows: np.ndarray, best: _Best) -> None:
        """Compute the gains of those that may be the best; the gains are their bounds from now on."""
        for some in self._promising(indices, best):
            gains = self._relevance_N[indices[some]]
            for part in self._tiles(len(some)):
                # order C, because numpy's order of adding follows the order in memory
                terms = self._terms[: len(some[part])]
                np.subtract(rows[some[part]], self._covered_Q, out=terms)
                np.maximum(terms, 0, out=terms)
                terms *= self._weights_Q
                gains[part] += terms.sum(axis=1)
            self._bounds_N[indices[some]] = gains
            best.offer(indices[some], gains, rows[some])

    def _tiles(self, count: int) -> Iterator[slice]:
        return (slice(start, start + self._tile) for start in range(0, count, self._tile))


class _Best:
    """The best candidate of a step so far; of equal ones that with the lowest index."""

    def __init__(self) -> None:
        self.index, self.gain = -1, -math.inf
        self.row = np.zeros(0)

    def may_lose_to(self, bounds: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Say of each candidate whether a gain of its bound would beat the best."""
        better: np.ndarray = (bounds > self.gain) | ((bounds == self.gain) & (indices < self.index))
        return better

    def offer(self, indices: np.ndarray, gains: np.ndarray, rows: np.ndarray) -> None:
        """Compare with candidates whose gains are known."""
        winner = np.lexsort((indices, -gains))[0]
        if (-gains[winner], indices[winner]) < (-self.gain, self.index):
            self.index, self.gain, self.row = int(indices[winner]), float(gains[winner]), rows[winner].copy()
