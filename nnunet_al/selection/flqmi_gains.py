"""Marginal gains of FLQMI: upper bounds for all candidates, exact values for those that can be the best."""

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
    """Marginal gains of the regions, computed only where they may be the largest.

    The gain of region a given A is Σ_q m_q max(0, S_aq - max_{b∈A} S_bq) + η max(0, max_q S_aq). Gains are computed in
    float64, each row's sum in a fixed order. Upper bounds come from faster float32 sums plus the largest possible
    rounding error. Gains cannot increase while A grows, in floating point too, because no term does; so earlier bounds
    stay valid, and the best candidate is the same as if all gains were computed.

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
        """Compute the bounds, reading every row once."""
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
        # n roundings reduce a sum of non-negative terms by at most n u / (1 - n u) of it (Higham 2002, section 3.1)
        roundings = (queries + 8) * _HALF_STEP
        assert roundings < 0.5, "float32 cannot bound so long a sum"
        self._slack, self._lost = 1 + roundings / (1 - roundings), _TINY * (queries + float(weights_Q.sum()))

        def visit(first: int, rows: np.ndarray) -> None:
            indices = np.arange(first, first + len(rows))
            for part in self._tiles(len(rows)):
                self._relevance_N[indices[part]] = eta * rows[part].max(axis=1, initial=0).astype(np.float64)
                self._tighten_bounds(indices[part], rows[part])

        self._kernel_N_Q.scan(visit, self._bounds_N)

    def take_best(self, pool: np.ndarray) -> tuple[int, float]:
        """Choose the region in ``pool`` with the largest gain; return its index and its gain."""
        best = _Best()
        is_kept = self._kernel_N_Q.is_kept(pool)
        kept, others = pool[is_kept], pool[~is_kept]
        for some in self._promising(kept, best):
            rows = self._kernel_N_Q[kept[some]]
            self._tighten_bounds(kept[some], rows)
            self._evaluate(kept[some], rows, best)
        while len(others := others[best.can_be_beaten(self._bounds_N[others], others)]):
            first = others[np.lexsort((others, -self._bounds_N[others]))[0]]
            block = self._kernel_N_Q.block_of(int(first))
            rows = self._kernel_N_Q[block]
            self._tighten_bounds(block, rows)
            candidates = np.flatnonzero(np.isin(block, others))
            self._evaluate(block[candidates], rows[candidates], best)
            self._kernel_N_Q.keep(block, rows)
            others = others[~np.isin(others, block)]
        assert best.index >= 0, "a gain is not a number"
        self._bounds_N[best.index] = -np.inf
        self._covered = True
        np.maximum(self._covered_Q, best.row, out=self._covered_Q)
        self._single_covered_Q[:] = self._covered_Q
        # rounding to float32 must not raise the covered similarity of a kernel in float64
        above = self._single_covered_Q > self._covered_Q
        self._single_covered_Q[above] = np.nextafter(self._single_covered_Q[above], np.float32(-np.inf))
        return best.index, best.gain

    def _promising(self, indices: np.ndarray, best: _Best) -> Iterator[np.ndarray]:
        """Yield positions in ``indices``, in the order of their bounds, as long as one may beat the best."""
        order = np.lexsort((indices, -self._bounds_N[indices]))
        largest = max(1, _READ_ELEMENTS // max(len(self._weights_Q), 1))
        start, size = 0, min(_FIRST_READ, largest)
        while start < len(order):
            some = order[start : start + size]
            bounds = self._bounds_N[indices[some]]
            promising = some[best.can_be_beaten(bounds, indices[some])]
            # sorted by bounds: after a candidate that cannot win, none can
            if len(promising) == 0 and bounds[0] < best.gain:
                return
            if len(promising):
                yield promising
            start, size = start + size, min(2 * size, largest)

    def _tighten_bounds(self, indices: np.ndarray, rows: np.ndarray) -> None:
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

    def _evaluate(self, indices: np.ndarray, rows: np.ndarray, best: _Best) -> None:
        """Compute the exact gains of candidates that may be the best, and use them as bounds from now on."""
        for some in self._promising(indices, best):
            gains = self._relevance_N[indices[some]]
            for part in self._tiles(len(some)):
                # in C order, because numpy adds in the order of the memory
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
    """The best candidate of a step so far; ties go to the lowest index."""

    def __init__(self) -> None:
        self.index, self.gain = -1, -math.inf
        self.row = np.zeros(0)

    def can_be_beaten(self, bounds: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Return for each candidate whether a gain equal to its bound would beat the best."""
        better: np.ndarray = (bounds > self.gain) | ((bounds == self.gain) & (indices < self.index))
        return better

    def offer(self, indices: np.ndarray, gains: np.ndarray, rows: np.ndarray) -> None:
        """Update the best by candidates with known gains."""
        winner = np.lexsort((indices, -gains))[0]
        if (-gains[winner], indices[winner]) < (-self.gain, self.index):
            self.index, self.gain, self.row = int(indices[winner]), float(gains[winner]), rows[winner].copy()
