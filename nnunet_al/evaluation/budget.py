"""Summaries of a learning curve: the area under it, and the budget at which it reaches a given Dice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.integrate import trapezoid
from scipy.stats import t as student

from nnunet_al.evaluation.bootstrap import Interval, finite_values

Curve = tuple[np.ndarray, np.ndarray]
"""Budgets, strictly increasing, and the Dice reached with each: both (P,), P >= 1; linear in between."""


def as_curve(budget_R: Sequence[float] | np.ndarray, dice_R: Sequence[float] | np.ndarray) -> Curve:
    """Return the rounds of a run as a curve, sorted by budget, without rounds where a number is not finite.

    Of several rounds with equal budget the last one counts.
    """
    budget, dice = np.asarray(budget_R, dtype=np.float64), np.asarray(dice_R, dtype=np.float64)
    assert budget.shape == dice.shape, f"{budget.shape} budgets for {dice.shape} values"
    assert budget.ndim == 1, f"the curve has the shape {budget.shape}"
    keep = np.isfinite(budget) & np.isfinite(dice)
    last_of = dict(zip(budget[keep].tolist(), dice[keep].tolist(), strict=True))
    budgets_P = np.array(sorted(last_of), dtype=np.float64)
    return budgets_P, np.array([last_of[budget] for budget in budgets_P.tolist()], dtype=np.float64)


def common_range(curves: Sequence[Curve]) -> Interval | None:
    """Return the range of budgets that all curves cover: from the largest first budget to the smallest last one.

    None where they do not overlap, or there is no curve; both ends are equal where they share a single budget.
    """
    if not curves or not all(len(budget_P) for budget_P, _ in curves):
        return None
    low = float(max(budget_P[0] for budget_P, _ in curves))
    high = float(min(budget_P[-1] for budget_P, _ in curves))
    return (low, high) if low <= high else None


def area_under_curve(curve: Curve, low: float, high: float) -> float:
    """Return the area under the budget curve between two budgets, divided by their difference: the mean Dice there.

    ∫ Dice(b) db / (high - low) by the trapezoidal rule, which is exact for linear interpolation. For low = high it is
    the Dice at that budget, the limit of the mean.

    Both budgets, low <= high, are within those of the curve.
    """
    budget_P, dice_P = curve
    _check(budget_P)
    assert budget_P[0] <= low <= high <= budget_P[-1], f"{low} to {high} is not within {budget_P[0]} to {budget_P[-1]}"
    if low == high:
        return float(np.interp(low, budget_P, dice_P))
    inside = budget_P[(budget_P > low) & (budget_P < high)]
    points = np.concatenate([[low], inside, [high]])
    return float(trapezoid(np.interp(points, budget_P, dice_P), points) / (high - low))


def budget_to_reach(curve: Curve, target: float) -> float | None:
    """Return the smallest budget at which the curve reaches ``target``, by linear interpolation between rounds.

    None where it is never reached. Where the first round is already above the target, the result is that round's
    budget, although a smaller one might be enough.
    """
    budget_P, dice_P = curve
    _check(budget_P)
    reached = np.flatnonzero(dice_P >= target)
    if not len(reached):
        return None
    after = int(reached[0])
    if after == 0:
        return float(budget_P[0])
    (low, high), (below, above) = budget_P[after - 1 : after + 1], dice_P[after - 1 : after + 1]
    return float(low + (high - low) * (target - below) / (above - below))


def mean_and_interval(values_N: Sequence[float] | np.ndarray, level: float = 0.95) -> tuple[float, Interval | None]:
    """Return the mean of N >= 1 runs, and its interval by Student's t: mean ± t(N - 1) · sd / √N; None for N = 1."""
    values_N = finite_values(values_N)
    half = half_width(values_N.std(ddof=1), len(values_N), level) if len(values_N) > 1 else None
    mean = float(values_N.mean())
    return mean, None if half is None else (mean - float(half), mean + float(half))


def half_width(sd: np.ndarray | float, n: int, level: float = 0.95) -> np.ndarray | float:
    """Return half the width of the interval of a mean of ``n`` >= 2 runs with the sample's standard deviation ``sd``.

    t is the quantile (1 + level) / 2 of Student's distribution with n - 1 degrees of freedom, which is large for few
    runs: 12.7 for two, 4.3 for three. Runs on folds of one dataset share cases and are not fully independent, so the
    interval is then somewhat too narrow.
    """
    assert n > 1, "one run has no interval"
    assert 0 < level < 1, f"the level is {level}"
    return float(student.ppf((1 + level) / 2, n - 1)) * sd / np.sqrt(n)


def _check(budget_P: np.ndarray) -> None:
    assert len(budget_P), "the curve has no point"
    assert (np.diff(budget_P) > 0).all(), "the budgets do not increase"
