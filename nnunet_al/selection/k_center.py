"""Greedy k-centre: the core-set selection of Sener and Savarese (2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_al.selection.distances import tiles
from nnunet_al.selection.lower_bound import Centres, product_type
from nnunet_al.selection.nearest import central_anchor, nearest_squared, update_nearest
from nnunet_al.selection.selection import Selection, order_by_name

# regions whose distances are updated first; twice as many whenever they were not enough
_FIRST_BLOCK = 32
# numbers read at a time for an update
_ROW_ELEMENTS = 1 << 21


def k_center(
    embeddings_N_d: np.ndarray, names_N: Sequence[str], budget: int, references_M_d: np.ndarray | None = None
) -> Selection:
    """Choose the region that is farthest from its nearest centre, make it a centre, and repeat ``budget`` times.

    Algorithm 1 (k-Center-Greedy) of Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
    Approach" (ICLR 2018): the largest remaining distance is at most twice the smallest possible one. The pool is read
    once for all references together (`nearest_squared`); after that, only the few rows are read that may be the
    farthest. Memory besides the embeddings: less than 150 MB, a few numbers per region, and two copies of the batch.

    Distances are Euclidean. The initial centres, ``references_M_d``, are the features of the annotated regions. Without
    any, the first region by name is chosen first.

    Returns
    -------
    Selection
        gains are the distances to the nearest centre at the time of choice, which never increase; the first choice
        without references gets 0.
    """
    order_N = order_by_name(names_N)
    assert embeddings_N_d.shape[0] == len(order_N)
    wanted = min(max(budget, 0), len(order_N))
    if wanted == 0:
        return Selection(np.zeros(0), np.zeros(0))

    picked: list[int] = []
    worth: list[float] = []
    if references_M_d is None or len(references_M_d) == 0:
        picked, worth = [int(order_N[0])], [0.0]
        if wanted == 1:
            return Selection(np.array(picked), np.array(worth))
        references_M_d = embeddings_N_d[picked[0] : picked[0] + 1]
    farthest = _Farthest.of(embeddings_N_d, order_N, references_M_d, wanted)
    for index in picked:
        farthest.exclude(index)
    while True:
        index, squared = farthest.find()
        picked.append(index)
        worth.append(float(np.sqrt(squared)))
        if len(picked) == wanted:
            return Selection(np.array(picked), np.array(worth))
        farthest.exclude(index)
        farthest.add_centre(index)


@dataclass(eq=False)
class _Farthest:
    """Finds the region that is farthest from its nearest centre, reading few other rows.

    Distances to the nearest centre cannot increase when centres are added: an earlier distance is an upper bound, and a
    region whose bound is below another's distance cannot be the farthest.

    Attributes
    ----------
    upper_N : float64 array (N,), squared distance of each region to the nearest of the references and the first
        ``seen_N`` centres, sorted by name, because argmax takes the first of equal values; -1 for a chosen region,
        since its duplicates have distance 0
    """

    embeddings_N_d: np.ndarray
    order_N: np.ndarray
    place_N: np.ndarray
    anchor_d: np.ndarray
    centres: Centres
    count: int
    upper_N: np.ndarray
    seen_N: np.ndarray

    @classmethod
    def of(cls, embeddings_N_d: np.ndarray, order_N: np.ndarray, references_M_d: np.ndarray, wanted: int) -> _Farthest:
        place_N = np.argsort(order_N)
        upper_N = nearest_squared(embeddings_N_d, references_M_d)[order_N]
        kind = product_type(embeddings_N_d)
        room = Centres.room_for(wanted, embeddings_N_d.shape[1], embeddings_N_d.dtype, kind)
        seen_N = np.zeros(len(order_N), dtype=np.int64)
        return cls(embeddings_N_d, order_N, place_N, central_anchor(references_M_d), room, 0, upper_N, seen_N)

    def exclude(self, index: int) -> None:
        """Never return this region again."""
        self.upper_N[self.place_N[index]] = -1

    def add_centre(self, index: int) -> None:
        """Make this region a centre."""
        row_1_d = np.asarray(self.embeddings_N_d[index : index + 1])
        self.centres.put(slice(self.count, self.count + 1), row_1_d, self.anchor_d)
        self.count += 1

    def find(self) -> tuple[int, float]:
        """Return the farthest region and its squared distance; ties go to the first name."""
        block = _FIRST_BLOCK
        while True:
            top = int(self.upper_N.argmax())
            if self.seen_N[top] == self.count:
                return int(self.order_N[top]), float(self.upper_N[top])
            stale_K = np.flatnonzero((self.seen_N < self.count) & (self.upper_N >= 0))
            if len(stale_K) > block:
                stale_K = stale_K[np.argpartition(self.upper_N[stale_K], -block)[-block:]]
            self._update(stale_K)
            block *= 2

    def _update(self, places_K: np.ndarray) -> None:
        # sorted, so that regions of one tile have missed about the same centres
        places_K = places_K[np.argsort(self.seen_N[places_K], kind="stable")]
        for tile in tiles(len(places_K), self.embeddings_N_d.shape[1], _ROW_ELEMENTS):
            places = places_K[tile]
            missed = self.centres[int(self.seen_N[places[0]]) : self.count]
            upper_T, rows_T_d = self.upper_N[places], self.embeddings_N_d[self.order_N[places]]
            update_nearest(upper_T, rows_T_d, missed, self.anchor_d)
            self.upper_N[places], self.seen_N[places] = upper_T, self.count
