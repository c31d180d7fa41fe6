"""What the tests of the selectors share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import chisquare

from nnunet_al.selection.selection import Selection


def names(count: int) -> list[str]:
    return [f"case_{index:03d}" for index in range(count)]


def chosen(selection: Selection, names_N: Sequence[str]) -> list[str]:
    return [names_N[index] for index in selection.indices_B]


def counts_of_first(select: Callable[[np.random.Generator], Selection], count: int, draws: int) -> np.ndarray:
    """How often each region comes first."""
    rng = np.random.default_rng(0)
    return np.bincount([select(rng).indices_B[0] for _ in range(draws)], minlength=count)


def p_value(counts_N: np.ndarray, weights: Sequence[float]) -> float:
    """Of the chi-square test that the counts follow the weights; weights of 0 need counts of 0."""
    expected_N = np.asarray(weights, dtype=np.float64) / np.sum(weights) * counts_N.sum()
    assert (counts_N[expected_N == 0] == 0).all()
    return float(chisquare(counts_N[expected_N > 0], expected_N[expected_N > 0]).pvalue)
