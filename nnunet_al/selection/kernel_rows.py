"""What the greedy engines ask of a kernel: rows by index, and a word on what each costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

_SHOWN_ELEMENTS = 1 << 21


class KernelRows(Protocol):
    """A kernel (N, Q) by its rows: an array, a file mapped to memory, or rows computed when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and Q."""
        ...

    def __getitem__(self, indices: np.ndarray, /) -> np.ndarray:
        """Return the rows (len(indices), Q)."""
        ...


@runtime_checkable
class ComputedRows(KernelRows, Protocol):
    """Rows that cost much where they are not kept, as those of ``kernel.SimilarityKernel``."""

    def scan(self, look: Callable[[int, np.ndarray], None], worth_N: np.ndarray) -> None:
        """Show every row once, in order: ``look(first index, rows)``; ``worth_N`` says what each is worth keeping."""
        ...

    def at_hand(self, indices: np.ndarray) -> np.ndarray:
        """Say of each row whether it costs nothing."""
        ...

    def companions(self, index: int) -> np.ndarray:
        """Return the rows that cost nothing more once a row is computed, itself included."""
        ...

    def keep(self, indices: np.ndarray, rows: np.ndarray) -> None:
        """Keep rows that were asked for, if they are worth it now."""
        ...


def as_computed_rows(rows_N_Q: KernelRows) -> ComputedRows:
    """Return the rows themselves, or rows that all cost nothing."""
    return rows_N_Q if isinstance(rows_N_Q, ComputedRows) else _AllAtHand(rows_N_Q)


class _AllAtHand:
    def __init__(self, rows_N_Q: KernelRows) -> None:
        self._rows_N_Q = rows_N_Q
        self.shape = rows_N_Q.shape

    def scan(self, look: Callable[[int, np.ndarray], None], worth_N: np.ndarray) -> None:
        count, queries = self.shape
        height = max(1, _SHOWN_ELEMENTS // max(queries, 1))
        for start in range(0, count, height):
            stop = min(start + height, count)
            # a slice of an array is no copy
            array = isinstance(self._rows_N_Q, np.ndarray)
            look(start, self._rows_N_Q[start:stop] if array else self._rows_N_Q[np.arange(start, stop)])  # type: ignore[index]

    def at_hand(self, indices: np.ndarray) -> np.ndarray:
        return np.ones(len(indices), dtype=bool)

    def companions(self, index: int) -> np.ndarray:
        return np.array([index])

    def keep(self, indices: np.ndarray, rows: np.ndarray) -> None:
        pass

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self._rows_N_Q[indices]
