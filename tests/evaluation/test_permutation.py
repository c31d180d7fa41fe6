from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import permutation_test

from nnunet_al.evaluation.permutation import EXACT_UP_TO, paired_permutation_test


def p_value(differences, blocks=None, seed=0, **options):
    return paired_permutation_test(differences, np.random.default_rng(seed), blocks, **options)


def by_scipy(differences_N, resamples):
    return permutation_test(
        (differences_N, np.zeros(len(differences_N))),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=resamples,
        vectorized=True,
        rng=np.random.default_rng(1),
    ).pvalue


def test_worked_out_by_hand():
    assert p_value([0.1, 0.2, 0.3]) == 2 / 8  # only all plus and all minus are as large
    assert p_value([0.3, 0.2, -0.1]) == 4 / 8  # sums 0.6, 0.4, 0.2, 0 with both signs: those of 0.4 and more
    assert p_value([0.5]) == 1
    assert p_value([0.0, 0.0]) == 1
    assert p_value([0.1] * 6) == 2 / 2**6


def test_the_signs_of_a_block_change_together():
    differences, runs = [0.1, 0.2, 0.3, 0.1], ["a", "a", "b", "b"]
    assert p_value(differences) == 2 / 16
    assert p_value(differences, runs) == 2 / 4 == p_value([0.3, 0.4])
    assert p_value(differences, [("a", 0)] * 4) == 1


@pytest.mark.parametrize("seed", range(5))
def test_exact_as_scipy(seed):
    differences_N = np.random.default_rng(seed).normal(0.3, 1, 9)
    assert p_value(differences_N) == pytest.approx(by_scipy(differences_N, np.inf), abs=1e-12)


def test_drawn_as_scipy():
    differences_N = np.random.default_rng(3).normal(0.35, 1, EXACT_UP_TO + 14)
    assert 0.001 < p_value(differences_N) < 0.5
    assert p_value(differences_N) == pytest.approx(by_scipy(differences_N, 99_999), abs=0.005)


def test_neither_order_nor_sign_matters_and_rounding_does_not():
    differences_N = np.random.default_rng(4).normal(0.2, 1, 12)
    assert p_value(differences_N) == p_value(differences_N[::-1]) == p_value(-differences_N)
    assert p_value(np.full(10, 0.1)) == p_value(np.full(10, 0.3)) == 2 / 2**10


def test_a_drawn_p_is_never_0_and_repeatable():
    assert p_value(np.ones(40), resamples=999) == 1 / 1000
    differences_N = np.random.default_rng(5).normal(0.2, 1, 25)
    assert p_value(differences_N) == p_value(differences_N)


def test_false_alarms_are_as_many_as_the_level_says():
    rng = np.random.default_rng(6)
    below = [paired_permutation_test(rng.normal(0, 1, 8), rng) <= 0.05 for _ in range(600)]
    assert 0.02 < np.mean(below) < 0.08
