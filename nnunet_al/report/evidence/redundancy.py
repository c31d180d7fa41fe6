"""Redundancy of a batch: in its features, in its cases, and in the voxels that it asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_al.pool.boxes import Region, n_voxels, to_slices

DRAWS = 1000
"""Random batches that a batch is compared with."""


@dataclass(frozen=True)
class Redundancy:
    """A batch of B regions, and random batches of B regions from the pool that it was chosen from.

    Attributes
    ----------
    regions : B
    pool : number of regions that the random batches are drawn from
    similarity : mean cosine similarity of the features of two different regions of the batch; None with one region, or
        where a feature has no direction
    random_similarity : mean, 2.5th and 97.5th percentile of the similarity of random batches
    cases : number of cases that its regions lie in
    random_cases : mean of this number over random batches
    largest_share : largest share of the batch's regions that come from one case
    random_largest_share : mean of this share over random batches
    voxels_twice : see `voxels_twice`

    Values of random batches are None where the pool holds fewer regions than the batch.
    """

    regions: int
    pool: int
    similarity: float | None
    random_similarity: tuple[float, float, float] | None
    cases: int
    random_cases: float | None
    largest_share: float
    random_largest_share: float | None
    voxels_twice: float


def redundancy(
    features_N_d: np.ndarray,
    regions_N: Sequence[Region],
    pool_M: np.ndarray,
    batch_B: np.ndarray,
    shapes: Mapping[str, tuple[int, ...]],
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Redundancy:
    """Compare a batch with random batches of its size.

    Parameters
    ----------
    features_N_d
        a vector for each of N regions
    regions_N
        the regions
    pool_M, batch_B
        indices of the regions of the pool, and of the batch, which has at least one; the pool's mean is subtracted from
        all vectors, since features are positive and would otherwise all point the same way
    shapes
        case -> raw shape of its image
    rng
        draws the random batches, each without replacement
    draws
        number of random batches
    """
    size = len(batch_B)
    centre_d = features_N_d[pool_M].mean(0) if len(pool_M) else features_N_d.mean(0)
    directions_N_d = unit_vectors(features_N_d.astype(np.float64) - centre_d)
    drawn = [rng.choice(pool_M, size, replace=False) for _ in range(draws if len(pool_M) >= size else 0)]
    similarity, random_similarity = None, None
    if directions_N_d is not None and size > 1:
        similarity = mean_similarity(directions_N_d[batch_B])
        if drawn:
            values = np.array([mean_similarity(directions_N_d[some_B]) for some_B in drawn])
            low, high = np.percentile(values, [2.5, 97.5]).tolist()
            random_similarity = (float(values.mean()), low, high)
    case_N = np.unique([region.case for region in regions_N], return_inverse=True)[1]
    own = np.unique(case_N[batch_B], return_counts=True)[1]
    counts = [np.unique(case_N[some_B], return_counts=True)[1] for some_B in drawn]
    return Redundancy(
        regions=size,
        pool=len(pool_M),
        similarity=similarity,
        random_similarity=random_similarity,
        cases=len(own),
        random_cases=float(np.mean([len(of_case) for of_case in counts])) if counts else None,
        largest_share=float(own.max() / size),
        random_largest_share=float(np.mean([of_case.max() for of_case in counts]) / size) if counts else None,
        voxels_twice=voxels_twice([regions_N[index] for index in batch_B.tolist()], shapes),
    )


def unit_vectors(vectors_N_d: np.ndarray) -> np.ndarray | None:
    """Return the vectors divided by their lengths; None where a length is 0 or not finite."""
    lengths_N = np.linalg.norm(vectors_N_d, axis=1)
    return vectors_N_d / lengths_N[:, None] if (lengths_N > 0).all() and np.isfinite(lengths_N).all() else None


def mean_similarity(directions_B_d: np.ndarray) -> float:
    """Return the mean of u_i · u_j over all pairs i < j of B >= 2 unit vectors: (|Σ u|² - B) / (B (B - 1))."""
    size = len(directions_B_d)
    return float((np.square(directions_B_d.sum(0)).sum() - size) / (size * (size - 1)))


def voxels_twice(regions: Sequence[Region], shapes: Mapping[str, tuple[int, ...]]) -> float:
    """Return 1 - |union of the boxes| / Σ |box|: the share of the voxels asked for that repeat others of the batch."""
    asked = sum(n_voxels(region.box) for region in regions)
    once = 0
    for case in Counter(region.case for region in regions):
        mask = np.zeros(shapes[case], dtype=bool)
        for region in regions:
            if region.case == case:
                mask[to_slices(region.box)] = True
        once += int(np.count_nonzero(mask))
    return 1 - once / asked if asked else 0.0
