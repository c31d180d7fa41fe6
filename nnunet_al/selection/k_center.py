"""Greedy k-centre: the core-set selection of Sener and Savarese (2018)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_al.selection.nearest import nearest_squared
from nnunet_al.selection.selection import Selection, order_by_name


def k_center(
    embeddings_N_d: np.ndarray,
    names_N: Sequence[str],
    budget: int,
    references_M_d: np.ndarray | None = None,
) -> Selection:
    """Take ``budget`` times the region that is farthest from its nearest centre, which makes it a centre.

    Algorithm 1 (k-Center-Greedy) of Sener and Savarese, "Active Learning for Convolutional Neural Networks: A
    Core-Set Approach" (ICLR 2018): the largest distance that remains is at most twice the smallest possible one.

    Parameters
    ----------
    embeddings_N_d : float array (N, d)
        finite features, compared by Euclidean distance; may be mapped from disk.
    names_N : sequence of str
        unique names; they alone decide ties, so that the order of the pool changes nothing.
    budget : int
        number of regions asked for; a pool that holds fewer is returned whole.
    references_M_d : float array (M, d), optional
        features of the annotated regions, the first centres. Without any the first region by name is chosen first.

    Returns
    -------
    Selection
        gains are the distances to the nearest centre at the time of choice, which never increase; a first choice
        without references, far from nothing yet, gets 0.
    """
    order_N = order_by_name(names_N)
    assert embeddings_N_d.shape[0] == len(order_N)
    wanted = min(max(budget, 0), len(order_N))
    if wanted == 0:
        return Selection(np.zeros(0), np.zeros(0))

    squared_N = nearest_squared(embeddings_N_d, embeddings_N_d[:0] if references_M_d is None else references_M_d)
    picked: list[int] = []
    worth: list[float] = []
    while True:
        # by name, because argmax takes the first of equal distances; -1, because a copy of a centre is 0 away as well
        open_N = squared_N[order_N]
        open_N[np.isin(order_N, picked)] = -1
        index = int(order_N[open_N.argmax()])
        picked.append(index)
        worth.append(float(np.sqrt(squared_N[index])) if np.isfinite(squared_N[index]) else 0.0)
        if len(picked) == wanted:
            return Selection(np.array(picked), np.array(worth))
        np.minimum(squared_N, nearest_squared(embeddings_N_d, embeddings_N_d[index : index + 1]), out=squared_N)
