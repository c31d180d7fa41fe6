"""Keys by which scores are ranked: the scores themselves, or scores with noise that makes a batch less redundant."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nnunet_al.selection.selection import finite_scores, order_by_name, rank_by_name

# scores_N -> keys_N, finite float64, which are ranked instead
Keys = Callable[[np.ndarray], np.ndarray]


def unchanged(scores_N: np.ndarray) -> np.ndarray:
    """Rank by the scores themselves: the ``Keys`` without noise."""
    return scores_N


def ranking(scores_N: np.ndarray, names_N: Sequence[str], keys: Keys = unchanged) -> np.ndarray:
    """Return the int64 indices (N,) from the largest key to the smallest, equal keys in the order of their names.

    ``keys`` is called once, with finite float64 scores in the order of the pool.
    """
    keys_N = finite_scores(keys(finite_scores(scores_N, len(names_N))), len(names_N))
    # lexsort takes its last key first
    return np.lexsort((rank_by_name(names_N), -keys_N))


def power_noise(names_N: Sequence[str], rng: np.random.Generator, beta: float) -> Keys:
    """Return keys ln s + G with G ~ Gumbel(0, 1/β), drawn for each region in the order of names.

    The first region is drawn with probability s_i^β / Σ s^β, and each following one likewise from the remaining ones.
    The larger β, the less noise. From the power acquisition of Kirsch et al., "Stochastic Batch Acquisition" (TMLR
    2023), as nnActive (Lüth et al. 2025) uses it.

    Scores of 0, whose logarithm is infinite, rank below all positive scores, among themselves by G, which is a
    uniformly random order.

    N numbers are drawn from ``rng`` in EACH call of the keys, so that every ranking gets new noise. The keys assert
    that no score is negative; β is more than 0.
    """
    assert beta > 0, f"the noise's beta is {beta}"

    def keys(scores_N: np.ndarray) -> np.ndarray:
        scores_N = finite_scores(scores_N, len(names_N))
        assert (scores_N >= 0).all(), "power noise needs scores that are not negative"
        gumbel_N = _gumbel(names_N, rng)
        positive_N = scores_N > 0
        keys_N = np.empty(len(scores_N))
        keys_N[positive_N] = np.log(scores_N[positive_N]) + gumbel_N[positive_N] / beta
        zeros = np.flatnonzero(~positive_N)
        behind = keys_N[positive_N].min(initial=0.0) - 1
        keys_N[zeros[np.argsort(-gumbel_N[zeros])]] = behind - np.arange(len(zeros))
        return keys_N

    return keys


def softrank_noise(names_N: Sequence[str], rng: np.random.Generator) -> Keys:
    """Return keys -ln(rank) + G with G ~ Gumbel(0, 1), drawn for each region in the order of names.

    The rank is the position, counted from 1, in the ranking of ``top_k``, so that scores may have any sign and scale;
    rank i comes first with probability (1/i) / Σ_j (1/j). Softrank acquisition of Kirsch et al. (TMLR 2023).

    As with ``power_noise``, every call of the keys draws new noise.
    """

    def keys(scores_N: np.ndarray) -> np.ndarray:
        order_N = ranking(scores_N, names_N)
        keys_N = _gumbel(names_N, rng)
        keys_N[order_N] -= np.log(np.arange(1, len(order_N) + 1))
        return keys_N

    return keys


def scheduled_beta(beta: float, beta_end: float | None, step: int, steps: int) -> float:
    """Return β · (β_end / β)^(step / (steps - 1)): geometric growth from the first step, 0, to the last.

    ``beta_end`` is β of the last step and of all later ones; None keeps ``beta``. There is at least one planned step;
    with one the result is ``beta_end``. After the schedule of ClaSP PE (Lüth et al., TMLR 2026), where β grows from 1
    to 100.
    """
    assert step >= 0
    assert steps >= 1
    if beta_end is None:
        return beta
    # not the formula, whose last step could be off by rounding
    if step >= steps - 1:
        return beta_end
    return float(beta * (beta_end / beta) ** (step / (steps - 1)))


def _gumbel(names_N: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    gumbel_N = np.empty(len(names_N))
    gumbel_N[order_by_name(names_N)] = rng.gumbel(size=len(names_N))
    return gumbel_N
