"""Percentile intervals of means, from resamples drawn with replacement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Interval = tuple[float, float]

# drawn indices in memory at a time, 8 bytes each
_DRAWS_PER_CHUNK = 1 << 20


def finite_values(values_N: np.ndarray | Sequence[float]) -> np.ndarray:
    """Return the values as float64 (N,), and assert that N >= 1 and that all are finite."""
    result_N = np.asarray(values_N, dtype=np.float64)
    assert result_N.ndim == 1, f"the values have the shape {result_N.shape}"
    assert len(result_N), "there is no case"
    assert np.isfinite(result_N).all(), "a value is not finite"
    return result_N


def resampled_means(values_N: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Return the means of R = ``resamples`` >= 1 samples of N, drawn with replacement, as float64 (R,).

    (R, N) indices are drawn in chunks of about a million, with the same result as one draw of all.
    """
    assert resamples >= 1, f"{resamples} resamples"
    n = len(values_N)
    rows = max(1, _DRAWS_PER_CHUNK // n)
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    return np.concatenate([values_N[rng.integers(0, n, size=(size, n))].mean(axis=1) for size in sizes])


def percentile_interval(statistic_R: np.ndarray, level: float) -> Interval:
    """Return the bounds of the central share ``level`` of the resamples."""
    assert 0 < level < 1, f"the level is {level}"
    low, high = np.quantile(statistic_R, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return low, high
