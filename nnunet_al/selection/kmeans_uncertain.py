"""k-means++ seeding among the most uncertain regions of each case (nnActive's k-means BALD, Lüth et al. 2025)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_al.selection.kmeans_plusplus import kmeans_plusplus
from nnunet_al.selection.ranking_noise import ranking
from nnunet_al.selection.selection import Selection, order_by_name


def kmeans_uncertain(
    scores_N: np.ndarray,
    embeddings_N_d: np.ndarray,
    cases_N: Sequence[str],
    names_N: Sequence[str],
    budget: int,
    rng: np.random.Generator,
    per_case: float = 2.0,
) -> Selection:
    """Keep the most uncertain regions of each case, and choose among them by k-means++ on standardised features.

    round(``per_case`` · B) regions of each case are kept, at least 1. Where this gives fewer than B regions, the number
    is raised for all cases until B are reached. Only the kept embeddings are read.

    Returns
    -------
    Selection
        gains are the distances to the nearest centre so far, in standard deviations; 0 for the first, which is drawn
        uniformly.
    """
    assert per_case >= 0
    assert embeddings_N_d.shape[0] == len(names_N)
    wanted = min(max(budget, 0), len(names_N))
    if wanted == 0:
        return Selection(np.zeros(0), np.zeros(0))
    place_N = _place_in_case(ranking(scores_N, names_N), cases_N)
    keep = max(1, round(per_case * wanted), int(np.sort(place_N)[wanted - 1]) + 1)
    order_N = order_by_name(names_N)
    kept_K = order_N[place_N[order_N] < keep]  # by name, because sums round
    seeds = kmeans_plusplus(
        standardised(embeddings_N_d[kept_K]), [names_N[index] for index in kept_K], wanted, rng, first="uniform"
    )
    return Selection(kept_K[seeds.indices_B], seeds.gains_B)


def standardised(features_K_d: np.ndarray) -> np.ndarray:
    """Return float64 features with mean 0 and (population) standard deviation 1 in each dimension, constant ones 0."""
    features_K_d = np.asarray(features_K_d, dtype=np.float64)
    assert np.isfinite(features_K_d).all(), "an embedding is not finite"
    centred_K_d = features_K_d - features_K_d.mean(axis=0)
    # the mean of equal numbers may differ from them by rounding
    centred_K_d[:, (features_K_d == features_K_d[:1]).all(axis=0)] = 0
    del features_K_d  # at most two copies at a time
    deviations_d = np.sqrt(np.square(centred_K_d).mean(axis=0))
    deviations_d[deviations_d == 0] = 1
    centred_K_d /= deviations_d
    return centred_K_d


def _place_in_case(ranked_N: np.ndarray, cases_N: Sequence[str]) -> np.ndarray:
    """Return (N,): the number of regions of the same case that rank before each region."""
    assert len(cases_N) == len(ranked_N)
    place_N = np.empty(len(ranked_N), dtype=np.int64)
    seen: dict[str, int] = {}
    for index in ranked_N:
        case = cases_N[index]
        place_N[index] = seen.get(case, 0)
        seen[case] = place_N[index] + 1
    return place_N
