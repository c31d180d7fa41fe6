from __future__ import annotations

import numpy as np
import pytest

from nnunet_al.selection.ranking_noise import power_noise, ranking, scheduled_beta, softrank_noise
from nnunet_al.selection.top_k import top_k

from .pools import chosen, counts_of_first, names, p_value

SCORES = np.array([0.2, 1.0, 0.0, 0.3, 0.5])


def noisy_top(noise, budget: int = 1):
    return lambda rng: top_k(SCORES, names(5), budget, noise(rng))


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_power_noise_draws_in_proportion_to_the_power_of_the_score(beta):
    counts_N = counts_of_first(noisy_top(lambda rng: power_noise(names(5), rng, beta)), 5, 3000)
    assert p_value(counts_N, SCORES**beta) > 0.01
    assert p_value(counts_N, np.where(SCORES > 0, SCORES ** (beta + 0.5), 0)) < 1e-6


def test_after_the_first_the_others_are_drawn_in_proportion_to_what_remains():
    rng, second = np.random.default_rng(1), []
    for _ in range(6000):
        first, following = top_k(SCORES, names(5), 2, power_noise(names(5), rng, 1.0)).indices_B
        if first == 1:
            second.append(following)
    assert p_value(np.bincount(second, minlength=5), [0.2, 0, 0, 0.3, 0.5]) > 0.01


def test_softrank_draws_in_proportion_to_the_inverse_of_the_rank():
    # negative scores have ranks too; the two equal ones in the order of names
    scores_N = np.array([-2.0, 5.0, -7.0, 5.0])
    counts_N = counts_of_first(lambda rng: top_k(scores_N, names(4), 1, softrank_noise(names(4), rng)), 4, 3000)
    assert p_value(counts_N, [1 / 3, 1, 1 / 4, 1 / 2]) > 0.01
    assert p_value(counts_N, [1 / 3, 1 / 2, 1 / 4, 1]) < 1e-6


def test_little_power_noise_is_top_k():
    scores_N = np.random.default_rng(0).random(50)
    noisy = top_k(scores_N, names(50), 20, power_noise(names(50), np.random.default_rng(1), 1e9))
    np.testing.assert_array_equal(noisy.indices_B, top_k(scores_N, names(50), 20).indices_B)


def test_gains_are_scores_without_noise():
    scores_N = np.random.default_rng(0).random(50)
    noisy = top_k(scores_N, names(50), 20, power_noise(names(50), np.random.default_rng(1), 1.0))
    np.testing.assert_array_equal(noisy.gains_B, scores_N[noisy.indices_B])
    assert (np.diff(noisy.gains_B) > 0).any()


@pytest.mark.parametrize("beta", [1e-3, 1.0, 1e6])
def test_zeros_rank_behind_every_positive_score_in_random_order(beta):
    scores_N = np.array([0.0, 5e-324, 0.0, 1e300, -0.0, 0.0])
    lasts = set()
    for seed in range(200):
        order_N = ranking(scores_N, names(6), power_noise(names(6), np.random.default_rng(seed), beta))
        assert set(order_N[:2]) == {1, 3}
        lasts.add(tuple(order_N[2:]))
    assert len(lasts) == 24


def test_noise_goes_with_the_name_and_is_new_at_each_call():
    names_N, scores_N = ["c", "a", "b"], np.array([0.3, 0.1, 0.2])
    for noise in (lambda n, rng: power_noise(n, rng, 1.0), softrank_noise):
        keys, moved = noise(names_N, np.random.default_rng(0)), noise(["a", "b", "c"], np.random.default_rng(0))
        once, twice = keys(scores_N), keys(scores_N)
        np.testing.assert_array_equal(once, moved(scores_N[[1, 2, 0]])[[2, 0, 1]])
        assert (once != twice).all()


def test_power_noise_by_hand():
    gumbel = np.random.default_rng(4).gumbel(size=3)  # a, b, c
    keys_N = power_noise(["c", "a", "b"], np.random.default_rng(4), 2.0)(np.array([np.e, 1.0, np.e**2]))
    np.testing.assert_allclose(keys_N, [1 + gumbel[2] / 2, gumbel[0] / 2, 2 + gumbel[1] / 2])


def test_a_negative_score_is_our_mistake():
    with pytest.raises(AssertionError, match="not negative"):
        power_noise(names(2), np.random.default_rng(0), 1.0)(np.array([0.1, -0.1]))
    with pytest.raises(AssertionError, match="beta"):
        power_noise(names(2), np.random.default_rng(0), 0.0)


def test_keys_must_be_finite():
    with pytest.raises(AssertionError, match="finite"):
        top_k(np.array([0.0, 1.0]), names(2), 1, keys=lambda scores_N: scores_N + np.inf)


def test_keys_replace_the_scores_and_ties_go_to_names():
    names_N = ["d", "a", "z", "b"]
    backwards = top_k(np.array([1.0, 2, 3, 2]), names_N, 3, keys=lambda scores_N: -scores_N)
    assert chosen(backwards, names_N) == ["d", "a", "b"]
    np.testing.assert_array_equal(backwards.gains_B, [1, 2, 2])


@pytest.mark.parametrize(
    "beta, beta_end, step, steps, expected",
    [
        (1, 100, 0, 3, 1),
        (1, 100, 1, 3, 10),
        (1, 100, 2, 3, 100),
        (1, 100, 7, 3, 100),
        (2, 32, 3, 5, 16),
        (1, 100, 0, 1, 100),
        (3, None, 4, 9, 3),
        (100, 1, 1, 3, 10),
        (5, 5, 1, 4, 5),
    ],
)
def test_the_schedule_is_geometric(beta, beta_end, step, steps, expected):
    assert scheduled_beta(beta, beta_end, step, steps) == pytest.approx(expected, rel=1e-12)


def test_the_schedule_never_overshoots():
    betas = [scheduled_beta(0.7, 91.3, step, 13) for step in range(15)]
    assert betas == sorted(betas)
    assert (betas[0], betas[-1]) == (0.7, 91.3)
