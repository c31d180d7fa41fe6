"""Stochastic batches: the most uncertain of many random batches (Gaillochet et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from nnunet_al.selection.ranking_noise import ranking
from nnunet_al.selection.selection import Selection, finite_scores, order_by_name


def stochastic_batches(
    scores_N: np.ndarray, names_N: Sequence[str], budget: int, rng: np.random.Generator, num_batches: int | None = None
) -> Selection:
    """Draw random batches of B regions and select the one with the largest mean score (algorithm 1, equation 3).

    Without ``num_batches``, the permuted pool is divided into floor(N/B) disjoint batches, and the remaining regions
    belong to none (section 4.3.2). With it, that many batches are drawn, each without replacement from the whole pool
    (section 5.2.4): 1 is a uniform draw, very many approach ``top_k``. A pool of at most B regions is returned whole,
    without a draw.

    Returns
    -------
    Selection
        the batch by descending score, equal scores in the order of names; gains are the scores. Among batches with
        equal means the first one drawn is selected.
    """
    assert num_batches is None or num_batches >= 1, f"{num_batches} stochastic batches"
    scores_N = finite_scores(scores_N, len(names_N))
    order_N = order_by_name(names_N)
    if 0 < budget < len(order_N):
        # all batches have one size, so sums replace means; fsum, because rounding must not separate equal batches
        batches = _batches(len(order_N), budget, rng, num_batches)
        members = order_N[max(batches, key=lambda batch_B: math.fsum(scores_N[order_N[batch_B]]))]
    else:
        members = order_N if budget > 0 else order_N[:0]
    ranked_N = ranking(scores_N, names_N)
    indices_B = ranked_N[np.isin(ranked_N, members)]
    return Selection(indices_B, scores_N[indices_B])


def _batches(count: int, budget: int, rng: np.random.Generator, num_batches: int | None) -> Iterator[np.ndarray]:
    if num_batches is None:
        yield from rng.permutation(count)[: count // budget * budget].reshape(-1, budget)
    else:
        for _ in range(num_batches):
            yield rng.choice(count, size=budget, replace=False, shuffle=False)
