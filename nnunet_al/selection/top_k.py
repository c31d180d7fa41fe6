"""The regions with the largest scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_al.selection.selection import Selection, finite_scores, rank_by_name


def top_k(scores_N: np.ndarray, names_N: Sequence[str], budget: int) -> Selection:
    """Select the ``budget`` largest scores, largest first; equal scores in the order of their names.

    Parameters
    ----------
    scores_N : float array (N,)
        finite scores, larger is more informative.
    names_N : sequence of str
        unique names; they alone decide ties, so that the order of the pool changes nothing.
    budget : int
        number of regions asked for; a pool that holds fewer is returned whole.
    """
    scores_N = finite_scores(scores_N, len(names_N))
    # lexsort takes its last key first
    order_N = np.lexsort((rank_by_name(names_N), -scores_N))
    indices_B = order_N[: max(budget, 0)]
    return Selection(indices_B, scores_N[indices_B])
