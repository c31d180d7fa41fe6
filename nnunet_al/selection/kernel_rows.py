"""Interface between the greedy engines and a kernel: rows by index, and whether they are in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

_SHOWN_ELEMENTS = 1 << 21


class KernelRows(Protocol):
    """A kernel (N, Q) by rows: an array, a memory map, or rows computed at request."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and Q."""
        ...

    def __getitem__(self, indices: np.ndarray, /) -> np.ndarray:
        """Return the rows (len(indices), Q)."""
        ...


@runtime_checkable
class ComputedRows(KernelRows, Protocol):
    """Rows that are expensive where they are not kept in memory, as in ``kernel.SimilarityKernel``."""

    def scan(self, visit: Callable[[int, np.ndarray], None], priority_N: np.ndarray) -> None:
        """Call ``visit(first index, rows)`` over all rows, in order; keep those with the highest ``priority_N``."""
        ...

    def is_kept(self, indices: np.ndarray) -> np.ndarray:
        """Return for each row whether it is in memory."""
        ...

    def block_of(self, index: int) -> np.ndarray:
        """Return the indices of the rows that are computed together with this one, itself included."""
        ...

    def keep(self, indices: np.ndarray, rows: np.ndarray) -> None:
        """Keep computed rows, if their priority is now high enough."""
        ...


def as_computed_rows(rows_N_Q: KernelRows) -> ComputedRows:
    """Return computed rows as they are, and wrap other rows as always kept."""
    return rows_N_Q if isinstance(rows_N_Q, ComputedRows) else _AllKept(rows_N_Q)


class _AllKept:
    def __init__(self, rows_N_Q: KernelRows) -> None:
        self._rows_N_Q = rows_N_Q
        self.shape = rows_N_Q.shape

    def scan(self, visit: Callable[[int, np.ndarray], None], priority_N: np.ndarray) -> None:
        count, queries = self.shape
        height = max(1, _SHOWN_ELEMENTS // max(queries, 1))
        for start in range(0, count, height):
            stop = min(start + height, count)
            # a slice of an array is no copy
            array = isinstance(self._rows_N_Q, np.ndarray)
            rows = slice(start, stop) if array else np.arange(start, stop)
            visit(start, self._rows_N_Q[rows])  # type: ignore[index]

    def is_kept(self, indices: np.ndarray) -> np.ndarray:
        return np.ones(len(indices), dtype=bool)

    def block_of(self, index: int) -> np.ndarray:
        return np.array([index])

    def keep(self, indices: np.ndarray, rows: np.ndarray) -> None:
        pass

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self._rows_N_Q[indices]
