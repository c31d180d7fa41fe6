from __future__ import annotations

import numpy as np
import pytest
from kneed import KneeLocator

from nnunet_al.selection.query import draw_query, query_size


def names(count: int) -> list[str]:
    return [f"r{index:05d}" for index in range(count)]


def knee_shaped(count: int, elbow: int) -> np.ndarray:
    """Two straight lines that meet at ``elbow``."""
    return np.concatenate([np.linspace(1, 0.1, elbow), np.linspace(0.1, 0, count - elbow + 1)[1:]])


@pytest.mark.parametrize("count, elbow", [(1000, 200), (5000, 700)])
def test_the_elbow_of_two_lines_is_where_they_meet(count, elbow):
    assert query_size(knee_shaped(count, elbow), 1) == elbow


def test_the_elbow_of_a_noisy_curve_is_that_of_kneedle_with_a_sensitivity_of_ten():
    scores_N = np.random.default_rng(0).gamma(0.5, size=1000)
    curve = (np.arange(1, 1001), np.sort(scores_N)[::-1])
    elbows = {S: KneeLocator(*curve, S=S, curve="convex", direction="decreasing").knee for S in (1, 2, 5, 10, 20)}
    assert len(set(elbows.values())) == len(elbows)
    assert query_size(scores_N, 1) == elbows[10]


def test_the_elbow_does_not_depend_on_the_order_of_scores():
    scores_N = knee_shaped(1000, 200)
    np.random.default_rng(0).shuffle(scores_N)
    assert query_size(scores_N, 1) == 200


def test_the_size_is_floored_at_five_budgets_and_capped_at_the_pool():
    scores_N = knee_shaped(1000, 200)
    assert query_size(scores_N, 60) == 300
    assert query_size(scores_N, 900) == 1000


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scores", [[], [0.3], [0.3, 0.1], [0.0] * 50, [0.7] * 50, np.linspace(1, 0, 50)])
def test_without_an_elbow_the_floor_holds(scores):
    assert query_size(np.array(scores), 2) == min(10, len(scores))


def test_draws_follow_the_scores():
    scores_N = np.array([0.0, 1, 2, 7])
    query = draw_query(scores_N, names(4), 1, np.random.default_rng(0), size=10_000)
    assert query.draws == 10_000
    np.testing.assert_array_equal(query.indices_Q, [1, 2, 3])  # probability 0 is never drawn
    np.testing.assert_allclose(query.multiplicities_Q, [1000, 2000, 7000], atol=5 * 46)


def test_uniform_ignores_the_scores():
    query = draw_query(np.array([0.0, 1, 2, 7]), names(4), 1, np.random.default_rng(0), size=10_000, mode="uniform")
    np.testing.assert_allclose(query.multiplicities_Q, [2500] * 4, atol=5 * 44)


def test_max_takes_the_most_uncertain_once():
    query = draw_query(np.array([3.0, 1, 9, 7]), names(4), 1, np.random.default_rng(0), size=2, mode="max")
    np.testing.assert_array_equal(query.indices_Q, [2, 3])
    np.testing.assert_array_equal(query.multiplicities_Q, [1, 1])


def test_all_zero_scores_are_drawn_uniformly_and_logged(caplog):
    query = draw_query(np.zeros(4), names(4), 1, np.random.default_rng(0), size=10_000)
    np.testing.assert_allclose(query.multiplicities_Q, [2500] * 4, atol=5 * 44)
    assert "uniformly" in caplog.text


def test_denormal_scores_keep_their_proportions():
    query = draw_query(np.array([1, 2, 1]) * 5e-324, names(3), 1, np.random.default_rng(0), size=8000)
    np.testing.assert_allclose(query.multiplicities_Q, [2000, 4000, 2000], atol=5 * 45)


@pytest.mark.parametrize("mode", ["uncertainty", "uniform", "max"])
def test_the_order_of_the_pool_changes_nothing(mode):
    scores_N, names_N = np.random.default_rng(0).gamma(0.5, size=80), names(80)
    shuffle = np.random.default_rng(1).permutation(80)
    first = draw_query(scores_N, names_N, 3, np.random.default_rng(2), mode=mode)
    shuffled_names = [names_N[index] for index in shuffle]
    second = draw_query(scores_N[shuffle], shuffled_names, 3, np.random.default_rng(2), mode=mode)
    assert [names_N[index] for index in first.indices_Q] == [shuffled_names[index] for index in second.indices_Q]
    np.testing.assert_array_equal(first.multiplicities_Q, second.multiplicities_Q)


def test_an_empty_pool_and_an_empty_budget():
    assert len(draw_query(np.zeros(0), [], 3, np.random.default_rng(0))) == 0
    assert len(draw_query(np.ones(5), names(5), 0, np.random.default_rng(0))) == 0


def test_negative_uncertainty_is_our_mistake():
    with pytest.raises(AssertionError, match="negative"):
        draw_query(np.array([1.0, -0.1]), names(2), 1, np.random.default_rng(0))
