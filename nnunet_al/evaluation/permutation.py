"""The paired permutation test: whether the mean of paired differences is 0."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from nnunet_al.evaluation.bootstrap import finite_values

EXACT_UP_TO = 16
"""Most blocks of which all 2^K signs are tried."""

_ROUNDING = 1e-9  # of the observed sum: equal sums differ in their last digits
_SIGNS_PER_CHUNK = 1 << 20


def paired_permutation_test(
    differences_N: np.ndarray | Sequence[float],
    rng: np.random.Generator,
    blocks_N: Sequence[Hashable] | None = None,
    resamples: int = 99_999,
) -> float:
    """Return the two-sided p value of N >= 1 paired differences under exchange of the two members of a pair.

    Without a difference between two strategies each pair could as well have the other sign: p is the share of
    assignments of signs whose absolute mean is at least the observed one. All 2^K are tried up to K = ``EXACT_UP_TO``
    blocks; beyond, ``resamples`` are drawn, and p = (1 + those at least as large) / (1 + ``resamples``).

    ``blocks_N``: differences of one block change their sign together, for example the rounds of one run, which are not
    independent of each other; None: each difference on its own.
    """
    values_N = finite_values(differences_N)
    _, number_N = np.unique([repr(block) for block in blocks_N or range(len(values_N))], return_inverse=True)
    sums_K = np.bincount(number_N, weights=values_N)
    observed = abs(sums_K.sum()) * (1 - _ROUNDING)
    count = len(sums_K)
    if count <= EXACT_UP_TO:
        signs_R_K = 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1) - 1
        return float((np.abs(signs_R_K @ sums_K) >= observed).mean())
    rows = max(1, _SIGNS_PER_CHUNK // count)
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    drawn = (2.0 * rng.integers(0, 2, (size, count)) - 1 for size in sizes)
    reached = sum(int((np.abs(signs_R_K @ sums_K) >= observed).sum()) for signs_R_K in drawn)
    return (1 + reached) / (1 + resamples)
