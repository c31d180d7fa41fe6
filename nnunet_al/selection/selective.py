"""Selective uncertainty: half of the batch from the target area, half from the decision boundary (Ma et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_al.selection.ranking_noise import Keys, ranking, unchanged
from nnunet_al.selection.selection import Selection, finite_scores


def selective_union(
    target_scores_N: np.ndarray,
    boundary_scores_N: np.ndarray,
    names_N: Sequence[str],
    budget: int,
    keys: Keys = unchanged,
) -> Selection:
    """Select TopK(target, B/2) ∪ TopK(boundary, B/2), filled up to exactly B regions.

    Equation 5 of Ma et al., "Breaking the Barrier: Selective Uncertainty-based Active Learning for Medical Image
    Segmentation" (2024). The equation does not define how a region in both lists counts; the released code then returns
    fewer than B. Here the lists choose in turn, target first, each its best region that is not chosen yet. So the
    target list chooses ceil(B/2) regions and the boundary list floor(B/2); a region at the top of both lists counts for
    the list that chooses it first, and the other list takes its next best; the batch contains the plain union, and
    equals it where the two halves are disjoint.

    Scores are those of equations 3 and 4. ``keys`` maps them to the keys that are ranked instead; it is called for the
    target list first, then for the boundary list.

    Returns
    -------
    Selection
        gains are the scores in the list that chose the region.
    """
    lists = [
        (scores_N, iter(ranking(scores_N, names_N, keys)))
        for scores_N in (finite_scores(scores_N, len(names_N)) for scores_N in (target_scores_N, boundary_scores_N))
    ]
    taken: dict[int, float] = {}
    for turn in range(min(max(budget, 0), len(names_N))):
        scores_N, candidates = lists[turn % 2]
        index = next(int(candidate) for candidate in candidates if int(candidate) not in taken)
        taken[index] = float(scores_N[index])
    return Selection(np.array(list(taken)), np.array(list(taken.values())))
