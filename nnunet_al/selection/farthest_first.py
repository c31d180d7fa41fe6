"""Farthest-first traversal from the most uncertain region."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_al.selection.k_center import k_center
from nnunet_al.selection.selection import Selection
from nnunet_al.selection.top_k import top_k


def farthest_first(scores_N: np.ndarray, embeddings_N_d: np.ndarray, names_N: Sequence[str], budget: int) -> Selection:
    """Select the region with the largest score, and then the one that is farthest from those selected so far.

    The traversal of Gonzalez, "Clustering to Minimize the Maximum Intercluster Distance" (1985), which leaves the first
    point open.

    Parameters
    ----------
    scores_N : float array (N,)
        finite scores, larger is more informative.
    embeddings_N_d : float array (N, d)
        finite features, compared by Euclidean distance.
    names_N : sequence of str
        unique names; they alone decide ties.
    budget : int
        number of regions asked for; a pool that holds fewer is returned whole.

    Returns
    -------
    Selection
        gains are the distances to the nearest region selected before; 0 for the first.
    """
    first_1 = top_k(scores_N, names_N, min(budget, 1)).indices_B
    if budget <= 1 or len(names_N) <= 1:
        return Selection(first_1, np.zeros(len(first_1)))
    others = np.delete(np.arange(len(names_N)), first_1)
    rest = k_center(embeddings_N_d[others], [names_N[i] for i in others.tolist()], budget - 1, embeddings_N_d[first_1])
    return Selection(np.concatenate([first_1, others[rest.indices_B]]), np.concatenate([[0.0], rest.gains_B]))
