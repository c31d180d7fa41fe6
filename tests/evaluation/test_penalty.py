from __future__ import annotations

import warnings
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from nnunet_al.evaluation.penalty import penalty_matrix

PAIRS = [(fold, seed) for fold in (0, 1) for seed in (0, 1)]


def cell(**values):
    return {name: dict(zip(PAIRS, of, strict=False)) for name, of in values.items()}


def test_a_matrix_worked_out_by_hand():
    """d = 0.10, 0.11, 0.09, 0.10: t = 0.1 / (0.00816 / 2) = 24.5 > 3.18. d = 0.1, -0.1, 0.1, -0.1: t = 0."""
    clear = cell(a=[0.60, 0.71, 0.59, 0.70], b=[0.50, 0.60, 0.50, 0.60])
    tie = cell(a=[0.6, 0.5, 0.6, 0.5], b=[0.5, 0.6, 0.5, 0.6])
    matrix = penalty_matrix({("x", 1): clear, ("x", 2): tie, ("y", 1): clear, ("y", 2): tie})
    assert matrix.names == ("a", "b")
    assert matrix.wins_S_S.tolist() == [[0, 2], [0, 0]]
    assert matrix.cells_S_S.tolist() == [[0, 4], [4, 0]]
    assert matrix.share_S_S.tolist() == [[0, 0.5], [0, 0]]
    assert matrix.column_means_S.tolist() == [0, 0.25]  # (0 + 1/2) / 2, as BADGE averages


def test_just_above_and_below_the_critical_value():
    """Three pairs have 2 degrees of freedom: d = (m - 1, m, m + 1) gives t = m √3, critical is 4.3027."""
    for mean, wins in ((4.3028 / np.sqrt(3), 1), (4.3026 / np.sqrt(3), 0)):
        matrix = penalty_matrix({1: cell(a=[mean - 1, mean, mean + 1], b=[0.0, 0.0, 0.0])})
        assert matrix.wins_S_S.sum() == wins


@pytest.mark.parametrize("seed", range(5))
def test_the_same_as_the_reference_computes(seed):
    """As scripts/agg_results.py of BADGE: a one-sample test of the differences, a win where p < 0.05 and mean > 0."""
    rng = np.random.default_rng(seed)
    names = ["a", "b", "c", "d"]
    cells = {
        number: cell(**{name: 0.7 + 0.02 * rank + 0.02 * rng.standard_normal(4) for rank, name in enumerate(names)})
        for number in range(12)
    }
    expected = np.zeros((4, 4))
    for of in cells.values():
        for i, j in permutations(range(4), 2):
            difference = [of[names[i]][pair] - of[names[j]][pair] for pair in PAIRS]
            expected[i, j] += np.mean(difference) > 0 and ttest_1samp(difference, 0.0).pvalue < 0.05
    matrix = penalty_matrix(cells)
    assert expected.any()
    assert np.array_equal(matrix.wins_S_S, expected)
    assert np.allclose(matrix.column_means_S, (expected / 12).mean(axis=0))


def test_nothing_depends_on_order_and_no_pair_wins_both_ways():
    rng = np.random.default_rng(0)
    cells = {number: cell(a=rng.random(4), b=rng.random(4), c=rng.random(4) + 1) for number in range(5)}
    matrix = penalty_matrix(cells)
    turned = penalty_matrix(
        {
            number: {name: dict(reversed(of[name].items())) for name in reversed(of)}
            for number, of in reversed(cells.items())
        }
    )
    assert np.array_equal(matrix.wins_S_S, turned.wins_S_S)
    assert (matrix.wins_S_S + matrix.wins_S_S.T <= matrix.cells_S_S).all()
    assert (matrix.share_S_S[2, :2] > 0).all()


def test_only_common_pairs_are_compared_and_fewer_than_two_are_counted():
    a = {(0, 0): 0.9, (0, 1): 0.8, (1, 0): 0.0}
    b = {(0, 0): 0.5, (0, 1): 0.41, (1, 1): 1.0}
    c = {(0, 0): 0.1}
    matrix = penalty_matrix({1: {"a": a, "b": b, "c": c}, 2: {"a": a}})
    assert matrix.wins_S_S.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert matrix.cells_S_S.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert matrix.too_few_S_S.tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    assert np.isnan(matrix.share_S_S[0, 2])
    assert np.array_equal(matrix.column_means_S, [0, 0.5, np.nan], equal_nan=True)


def test_equal_differences():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix = penalty_matrix(
            {
                "better": cell(a=[0.3, 0.4, 0.5], b=[0.2, 0.3, 0.4]),
                "equal": cell(a=[0.3, 0.4, 0.5], b=[0.3, 0.4, 0.5]),
                "equal but for rounding": cell(a=[0.1 + 0.2, 0.4], b=[0.3, 0.4]),
            }
        )
    assert matrix.wins_S_S.tolist() == [[0, 1], [0, 0]]
    assert matrix.without_variance_S_S.tolist() == [[0, 3], [3, 0]]


def test_nothing_to_compare():
    assert penalty_matrix({}).names == ()
    assert penalty_matrix({1: {"a": {(0, 0): 0.5}}}).share_S_S.tolist() == [[0.0]]
