"""A similarity kernel by rows: some are kept in memory, the others are computed again at each request."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nnunet_al.selection.kernel_blocks import BLOCK_ROWS, KernelBlocks


class SimilarityKernel:
    """The rows of a kernel (N, Q) in blocks, of which `scan` keeps ``kept_rows`` in memory, which changes no value."""

    def __init__(self, blocks: KernelBlocks, kept_rows: int) -> None:
        """Store the settings; nothing is computed yet."""
        self.shape = blocks.shape
        self._blocks = blocks
        self._kept_rows = min(kept_rows, self.shape[0])
        self._reset(0, np.zeros(self.shape[0]))

    def scan(self, visit: Callable[[int, np.ndarray], None], priority_N: np.ndarray) -> None:
        """Compute every row once, and keep those that are likely to be requested again.

        Parameters
        ----------
        visit : callable
            called for each block with the index of its first row and its rows (n, Q), which are valid during the call.
        priority_N : float array (N,)
            larger for rows that are more likely to be requested again; read at each use, so it may change later.
        """
        self._reset(self._kept_rows, priority_N)
        everything = self._kept_rows == self.shape[0]
        for block, rows in self._blocks.compute(range(len(self._blocks)), self._kept_K_Q if everything else None):
            indices = self._blocks.rows(block)
            visit(int(indices[0]), rows)
            if everything:
                self._slot_of_N[indices] = indices
            else:
                self.keep(indices, rows)

    def is_kept(self, indices: np.ndarray) -> np.ndarray:
        """Return for each row whether it is kept."""
        kept: np.ndarray = self._slot_of_N[indices] >= 0
        return kept

    def block_of(self, index: int) -> np.ndarray:
        """Return the indices of the rows that are computed together with this one, itself included."""
        return self._blocks.rows(index // BLOCK_ROWS)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Return rows (len(indices), Q), float32."""
        indices = np.asarray(indices)
        slots = self._slot_of_N[indices]
        if (slots >= 0).all():
            return self._kept_K_Q[slots]
        found = np.empty((len(indices), self.shape[1]), dtype=np.float32)
        found[slots >= 0] = self._kept_K_Q[slots[slots >= 0]]
        missing = np.flatnonzero(slots < 0)
        block_of = indices[missing] // BLOCK_ROWS
        for block, rows in self._blocks.compute(np.unique(block_of).tolist()):
            wanted = missing[block_of == block]
            found[wanted] = rows[indices[wanted] - block * BLOCK_ROWS]
        return found

    def keep(self, indices: np.ndarray, rows: np.ndarray) -> None:
        """Keep computed rows instead of kept ones of lower priority."""
        new = np.flatnonzero(self._slot_of_N[indices] < 0)
        room = min(len(self._kept_K_Q) - self._filled, len(new))
        self._put(np.arange(self._filled, self._filled + room), indices[new[:room]], rows[new[:room]])
        self._filled += room
        new = new[room:]
        if len(new) == 0 or self._filled == 0:
            return
        priority = np.concatenate([self._priority_N[self._row_of_K], self._priority_N[indices[new]]])
        stays = np.zeros(len(priority), dtype=bool)
        stays[np.argpartition(-priority, self._filled - 1)[: self._filled]] = True
        leaving, entering = np.flatnonzero(~stays[: self._filled]), new[stays[self._filled :]]
        self._slot_of_N[self._row_of_K[leaving]] = -1
        self._put(leaving, indices[entering], rows[entering])

    def _reset(self, room: int, priority_N: np.ndarray) -> None:
        self._priority_N = priority_N
        self._kept_K_Q = self._blocks.empty(room)
        self._row_of_K = np.zeros(room, dtype=np.int64)
        self._filled = 0
        self._slot_of_N = np.full(self.shape[0], -1, dtype=np.int64)

    def _put(self, slots: np.ndarray, indices: np.ndarray, rows: np.ndarray) -> None:
        self._kept_K_Q[slots] = rows
        self._row_of_K[slots] = indices
        self._slot_of_N[indices] = slots
