from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student, ttest_1samp
from sklearn.metrics import auc

from nnunet_al.evaluation.budget import (
    area_under_curve,
    as_curve,
    budget_to_reach,
    common_range,
    half_width,
    mean_and_interval,
)

BUDGET = np.array([10.0, 20.0, 40.0])
DICE = np.array([0.4, 0.6, 0.8])


def random_curve(seed):
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(200, 8, replace=False)).astype(float), rng.random(8)


def test_the_area_worked_out_by_hand():
    assert area_under_curve((BUDGET, DICE), 10, 40) == pytest.approx((0.5 * 10 + 0.7 * 20) / 30)
    assert area_under_curve((BUDGET, DICE), 10, 20) == pytest.approx(0.5)
    assert area_under_curve((BUDGET, DICE), 15, 30) == pytest.approx((0.55 * 5 + 0.65 * 10) / 15)
    assert area_under_curve((BUDGET, DICE), 30, 30) == pytest.approx(0.7)


@pytest.mark.parametrize("seed", range(10))
def test_the_area_is_that_of_scikit_learn_and_adds_up(seed):
    budget, dice = curve = random_curve(seed)
    whole = area_under_curve(curve, budget[0], budget[-1])
    assert whole == pytest.approx(auc(budget, dice) / (budget[-1] - budget[0]))
    low, middle, high = budget[0] + 0.3, (budget[0] + budget[-1]) / 2, budget[-1] - 0.7
    parts = area_under_curve(curve, low, middle) * (middle - low) + area_under_curve(curve, middle, high) * (
        high - middle
    )
    assert area_under_curve(curve, low, high) == pytest.approx(parts / (high - low))
    assert dice.min() <= whole <= dice.max()
    assert area_under_curve((3 * budget, dice), 3 * budget[0], 3 * budget[-1]) == pytest.approx(whole)
    assert area_under_curve((budget, dice + 1), budget[0], budget[-1]) == pytest.approx(whole + 1)


def test_the_area_is_asked_for_within_the_curve():
    with pytest.raises(AssertionError):
        area_under_curve((BUDGET, DICE), 5, 20)
    with pytest.raises(AssertionError):
        area_under_curve((BUDGET[[0, 0, 1]], DICE), 10, 20)


@pytest.mark.parametrize(
    "target, budget", [(0.4, 10), (0.1, 10), (0.5, 15), (0.6, 20), (0.7, 30), (0.8, 40), (0.81, None)]
)
def test_the_budget_worked_out_by_hand(target, budget):
    assert budget_to_reach((BUDGET, DICE), target) == (None if budget is None else pytest.approx(budget))


def test_the_first_crossing_counts_also_when_the_curve_falls_back():
    curve = (np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 0.8, 0.2, 1.0]))
    assert budget_to_reach(curve, 0.4) == pytest.approx(0.5)
    assert budget_to_reach(curve, 0.9) == pytest.approx(2.875)


@pytest.mark.parametrize("seed", range(10))
def test_the_curve_is_at_the_target_at_that_budget_and_below_before(seed):
    budget, dice = curve = random_curve(seed)
    target = float(dice[0] + 0.7 * (dice.max() - dice[0]))
    found = budget_to_reach(curve, target)
    assert np.interp(found, budget, dice) == pytest.approx(target)
    before = np.linspace(budget[0], found, 100)[:-1]
    assert (np.interp(before, budget, dice) < target).all() or dice[0] == dice.max()


def test_common_range():
    other = np.array([15.0, 30.0])
    assert common_range([(BUDGET, DICE), (other, DICE[:2])]) == (15, 30)
    assert common_range([(BUDGET, DICE)]) == (10, 40)
    assert common_range([(BUDGET, DICE), (BUDGET[:1], DICE[:1])]) == (10, 10)
    assert common_range([(BUDGET, DICE), (BUDGET + 100, DICE)]) is None
    assert common_range([(BUDGET, DICE), (BUDGET[:0], DICE[:0])]) is None
    assert common_range([]) is None


def test_rounds_become_a_curve():
    budget, dice = as_curve([30, 10, np.nan, 10, 20], [0.3, 0.1, 0.9, 0.2, np.inf])
    assert budget.tolist() == [10, 30]
    assert dice.tolist() == [0.2, 0.3]  # of two rounds with one budget the later one
    assert as_curve([], [])[0].shape == (0,)


@pytest.mark.parametrize("n", [2, 3, 12])
def test_the_interval_is_that_of_scipy(n):
    values = np.random.default_rng(n).normal(0.8, 0.1, n)
    mean, interval = mean_and_interval(values)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval == pytest.approx((expected.low, expected.high))
    assert mean == pytest.approx(values.mean())


def test_the_interval_worked_out_by_hand():
    """Two runs: t(1) has the quantile tan(0.475 π) = 12.706; sd / √2 of 0 and 2 is 1."""
    mean, interval = mean_and_interval([0.0, 2.0])
    assert mean == 1
    assert interval == pytest.approx((1 - np.tan(0.475 * np.pi), 1 + np.tan(0.475 * np.pi)))
    assert mean_and_interval([0.7]) == (0.7, None)
    assert half_width(2.0, 4, 0.9) == pytest.approx(student.ppf(0.95, 3))
    with pytest.raises(AssertionError):
        half_width(1.0, 1)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    values = np.random.default_rng(0).normal(size=(2000, 4))
    inside = sum(low <= 0 <= high for _, (low, high) in map(mean_and_interval, values))
    assert 0.93 < inside / 2000 < 0.97
