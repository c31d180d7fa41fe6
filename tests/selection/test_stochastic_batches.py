from __future__ import annotations

import numpy as np
import pytest

from nnunet_al.selection.stochastic_batches import stochastic_batches
from nnunet_al.selection.top_k import top_k

from .pools import chosen, names, p_value


def test_a_worked_example():
    # the generator's permutation of the pool in the order of names, cut into threes; the eighth region is left over
    names_N = ["h", "c", "a", "g", "b", "e", "d", "f"]
    scores_N = np.array([9.0, 1, 5, 2, 4, 8, 3, 7])
    of_name = dict(zip(names_N, scores_N, strict=True))
    permuted = [sorted(names_N)[index] for index in np.random.default_rng(3).permutation(8)]
    groups = [permuted[:3], permuted[3:6]]
    best = max(groups, key=lambda group: sum(of_name[name] for name in group))
    selection = stochastic_batches(scores_N, names_N, 3, np.random.default_rng(3))
    assert chosen(selection, names_N) == sorted(best, key=of_name.__getitem__, reverse=True)
    np.testing.assert_array_equal(selection.gains_B, scores_N[selection.indices_B])


def test_of_groups_that_halve_the_pool_the_better_half_is_taken():
    scores_N = np.random.default_rng(0).random(20)
    for seed in range(30):
        selection = stochastic_batches(scores_N, names(20), 10, np.random.default_rng(seed))
        assert selection.gains_B.mean() >= scores_N.mean()


def test_one_batch_is_a_uniform_draw():
    rng, counts_N = np.random.default_rng(0), np.zeros(6)
    for _ in range(2000):
        batch = stochastic_batches(np.arange(6.0), names(6), 2, rng, num_batches=1).indices_B
        counts_N[batch] += 1
    assert p_value(counts_N, np.ones(6)) > 0.01


def test_every_pair_is_a_possible_batch():
    rng = np.random.default_rng(0)
    pairs = {tuple(stochastic_batches(np.arange(6.0), names(6), 2, rng, num_batches=1).indices_B) for _ in range(300)}
    assert len(pairs) == 15


def test_very_many_batches_reach_top_k():
    scores_N = np.random.default_rng(1).random(8)
    selection = stochastic_batches(scores_N, names(8), 3, np.random.default_rng(0), num_batches=3000)
    np.testing.assert_array_equal(selection.indices_B, top_k(scores_N, names(8), 3).indices_B)


def test_more_batches_find_a_better_one():
    scores_N, means = np.random.default_rng(2).random(100), []
    for count in (1, 10, 1000):
        # the same generator: the first batches of a larger number are those of a smaller one
        selection = stochastic_batches(scores_N, names(100), 10, np.random.default_rng(0), num_batches=count)
        means.append(selection.gains_B.mean())
    assert means[0] < means[1] < means[2]


def test_the_first_of_equal_batches_is_taken():
    # 0.1 + 0.2 + 0.3 added in another order is another float64, but the same mean
    for seed in range(20):
        groups = np.random.default_rng(seed).permutation(30).reshape(10, 3)
        scores_N = np.zeros(30)
        scores_N[groups] = np.random.default_rng(100 + seed).permuted(np.tile([0.1, 0.2, 0.3], (10, 1)), axis=1)
        selection = stochastic_batches(scores_N, names(30), 3, np.random.default_rng(seed))
        assert set(selection.indices_B) == set(groups[0])


def test_the_batch_is_ordered_by_score_then_name():
    names_N = ["c", "b", "a"]
    assert chosen(stochastic_batches(np.array([1.0, 2, 1]), names_N, 3, np.random.default_rng(0)), names_N) == [
        "b",
        "a",
        "c",
    ]


@pytest.mark.parametrize("num_batches", [0, -2])
def test_no_batches_are_our_mistake(num_batches):
    with pytest.raises(AssertionError, match="stochastic batches"):
        stochastic_batches(np.ones(3), names(3), 1, np.random.default_rng(0), num_batches=num_batches)
