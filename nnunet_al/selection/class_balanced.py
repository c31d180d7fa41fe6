"""A share of the batch divided evenly among the foreground classes, the rest by the overall scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_al.selection.ranking_noise import Keys, ranking, unchanged
from nnunet_al.selection.selection import Selection, finite_scores


def class_balanced(
    scores_N: np.ndarray,
    class_scores_N_C: np.ndarray,
    names_N: Sequence[str],
    budget: int,
    rng: np.random.Generator,
    class_share: float,
    keys: Keys = unchanged,
) -> Selection:
    """Select round(class_share · B) regions evenly by the scores per class and the rest by the overall scores.

    The class-stratified part of ClaSP PE (Lüth et al., "Finally Outshining the Random Baseline", TMLR 2026). The batch
    is in the order of choice: class by class in the order of the columns, then the rest; each ranking skips regions
    that an earlier one chose.

    Parameters
    ----------
    scores_N, names_N, budget
        as in all selectors.
    class_scores_N_C : float array (N, C)
        finite scores for each foreground class, for example means of p̄_c · H(p̄), where ``scores_N`` are means of
        H(p̄). A class with equal scores for all regions is ranked by names, like any tie. Without classes the whole
        batch goes by ``scores_N``.
    rng : numpy generator
        draws the classes, without replacement, that get one region more where the share does not divide evenly; always
        one permutation of C.
    class_share : float
        share of the batch, 0 to 1, that is divided among the classes; halves are rounded to the even number.
    keys : Keys
        maps scores to the keys that are ranked instead; called once per ranking (none for a class without regions), so
        noise drawn in each call is independent between rankings.

    Returns
    -------
    Selection
        gains are the scores, without noise, of the ranking that chose the region.
    """
    assert 0 <= class_share <= 1
    scores_N = finite_scores(scores_N, len(names_N))
    class_scores_N_C = np.asarray(class_scores_N_C, dtype=np.float64)
    assert class_scores_N_C.ndim == 2
    wanted = min(max(budget, 0), len(scores_N))
    parts_C = _split(round(class_share * wanted), class_scores_N_C.shape[1], rng)

    taken_N = np.zeros(len(scores_N), dtype=bool)
    picked, worth = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    turns = [*zip(class_scores_N_C.T, parts_C, strict=True), (scores_N, wanted - parts_C.sum())]
    for ranked_N, part in turns:
        if part == 0:
            continue
        order_N = ranking(ranked_N, names_N, keys)
        indices = order_N[~taken_N[order_N]][:part]
        taken_N[indices] = True
        picked.append(indices)
        worth.append(ranked_N[indices])
    return Selection(np.concatenate(picked), np.concatenate(worth))


def _split(count: int, classes: int, rng: np.random.Generator) -> np.ndarray:
    parts_C = np.full(classes, count // max(classes, 1))
    parts_C[rng.permutation(classes)[: count % max(classes, 1)]] += 1
    return parts_C
