"""Random baselines: uniform, and with a share of regions with predicted foreground."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nnunet_al.selection.selection import Selection, order_by_name


def random_draw(names_N: Sequence[str], budget: int, rng: np.random.Generator) -> Selection:
    """Draw ``budget`` regions uniformly without replacement; every gain is 0.

    The pool, sorted by names, is permuted and the first regions are taken, so that with the same generator a smaller
    batch is the beginning of a larger one.
    """
    order_N = order_by_name(names_N)
    indices_B = order_N[rng.permutation(len(order_N))[: max(budget, 0)]]
    return Selection(indices_B, np.zeros(len(indices_B)))


def stratified_draw(names_N: Sequence[str], cases_N: Sequence[str], count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``count`` regions without replacement, from each case in proportion to its regions; all if there are fewer.

    The regions stand in a random order, case after case, and are taken at equal distances behind a random start
    (systematic sampling). A case's number is its share, rounded up or down at random, so that each region has the same
    chance, also in cases whose share is below one region.

    Returns
    -------
    np.ndarray
        sorted indices into the pool, int64; they depend on its names, not on its order.
    """
    order_N = order_by_name(names_N)
    size = len(order_N)
    if count >= size:
        return np.arange(size)
    cases, case_N = np.unique(np.asarray(cases_N)[order_N], return_inverse=True)
    place_N = rng.permutation(len(cases))[case_N]
    shuffled_N = order_N[np.lexsort((rng.permutation(size), place_N))]
    return np.sort(shuffled_N[(np.arange(count) * size + rng.integers(size)) // count])


def random_foreground(
    foreground_voxels_N: np.ndarray, names_N: Sequence[str], budget: int, rng: np.random.Generator, share: float = 1 / 3
) -> Selection:
    """Draw a share of the batch from regions with predicted foreground and the rest from all remaining regions.

    After the foreground-aware random baseline of nnActive (Lüth et al. 2025), which draws around voxels of the true
    classes; here the model's prediction is used, because only an oracle knows the true classes.

    The ``share`` of the batch, rounded up, is drawn uniformly from the regions with predicted foreground voxels. Where
    there are too few, the uniform draw fills the batch.

    Returns
    -------
    Selection
        gain 1 for a region drawn for its foreground, 0 for one drawn from all.
    """
    assert 0 <= share <= 1
    order_N = order_by_name(names_N)
    foreground_voxels_N = np.asarray(foreground_voxels_N, dtype=np.float64)
    assert foreground_voxels_N.shape == order_N.shape
    wanted = min(max(budget, 0), len(order_N))
    # 1e-9: a product such as 0.07 * 100 is above the exact integer by rounding
    quota = math.ceil(share * wanted - 1e-9)

    shuffled_N = order_N[rng.permutation(len(order_N))]
    from_foreground = shuffled_N[foreground_voxels_N[shuffled_N] > 0][:quota]
    taken_N = np.zeros(len(order_N), dtype=bool)
    taken_N[from_foreground] = True

    # a second permutation, because the rest of the first is not in uniformly random order
    reshuffled_N = order_N[rng.permutation(len(order_N))]
    from_all = reshuffled_N[~taken_N[reshuffled_N]][: wanted - len(from_foreground)]
    gains_B = np.concatenate([np.ones(len(from_foreground)), np.zeros(len(from_all))])
    return Selection(np.concatenate([from_foreground, from_all]), gains_B)
