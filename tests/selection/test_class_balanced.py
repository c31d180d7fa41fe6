from __future__ import annotations

import numpy as np
import pytest

from nnunet_al.selection.class_balanced import class_balanced
from nnunet_al.selection.ranking_noise import power_noise
from nnunet_al.selection.top_k import top_k

from .pools import chosen, names, p_value


def test_a_worked_example():
    names_N = ["a", "b", "c", "d", "e", "f"]
    scores_N = np.array([6.0, 5, 4, 3, 2, 1])
    class_scores_N_C = np.array([[9.0, 1], [8, 9], [1, 8], [1, 1], [7, 2], [0, 7]])
    # round(.66 · 6) = 4: two each; class 0 takes a, b; class 1 takes c, f (b is taken); the rest by score d, e
    selection = class_balanced(scores_N, class_scores_N_C, names_N, 6, np.random.default_rng(0), 0.66)
    assert chosen(selection, names_N) == ["a", "b", "c", "f", "d", "e"]
    np.testing.assert_array_equal(selection.gains_B, [9, 8, 8, 7, 3, 2])


@pytest.mark.parametrize(
    "share, budget, in_classes", [(0.66, 10, 7), (0.33, 10, 3), (0.5, 5, 2), (0.5, 7, 4), (0, 9, 0), (1, 9, 9)]
)
def test_the_share_is_rounded_and_split_evenly(share, budget, in_classes):
    # a score tells which ranking it comes from
    class_scores_N_C = np.random.default_rng(0).random((60, 3)) + [10, 20, 30]
    selection = class_balanced(
        np.random.default_rng(1).random(60), class_scores_N_C, names(60), budget, np.random.default_rng(2), share
    )
    parts = np.bincount((selection.gains_B // 10).astype(int), minlength=4)
    assert parts[0] == budget - in_classes
    assert parts[1:].max() - parts[1:].min() <= 1
    assert len(selection) == budget


def test_the_remainder_goes_to_classes_drawn_at_random():
    rng, counts_C = np.random.default_rng(0), np.zeros(3)
    class_scores_N_C = np.random.default_rng(0).random((20, 3)) + [10, 20, 30]
    for _ in range(1500):
        gains_B = class_balanced(np.zeros(20), class_scores_N_C, names(20), 4, rng, 1.0).gains_B
        parts = np.bincount((gains_B // 10).astype(int), minlength=4)[1:]
        assert sorted(parts) == [1, 1, 2]
        counts_C += parts == 2
    assert p_value(counts_C, np.ones(3)) > 0.01


@pytest.mark.parametrize("classes, share", [(0, 0.0), (0, 0.66), (3, 0.0)])
def test_without_classes_or_share_it_is_top_k(classes, share):
    rng = np.random.default_rng(0)
    scores_N, class_scores_N_C = rng.random(30), rng.random((30, classes))
    selection = class_balanced(scores_N, class_scores_N_C, names(30), 8, rng, share)
    np.testing.assert_array_equal(selection.indices_B, top_k(scores_N, names(30), 8).indices_B)


def test_one_class_takes_the_whole_share():
    scores_N = np.random.default_rng(0).random(30)
    selection = class_balanced(scores_N, -scores_N[:, None], names(30), 10, np.random.default_rng(0), 0.5)
    np.testing.assert_array_equal(selection.indices_B[:5], np.argsort(scores_N)[:5])
    np.testing.assert_array_equal(selection.indices_B[5:], np.argsort(-scores_N)[:5])


def test_more_classes_than_regions_in_the_share():
    class_scores_N_C = np.eye(9)
    selection = class_balanced(np.zeros(9), class_scores_N_C, names(9), 4, np.random.default_rng(0), 0.75)
    np.testing.assert_array_equal(selection.gains_B, [1, 1, 1, 0])


def test_keys_are_called_once_for_each_ranking_with_its_scores():
    rng = np.random.default_rng(0)
    scores_N, class_scores_N_C, seen = rng.random(12), rng.random((12, 2)), []

    def keys(values_N):
        seen.append(values_N.copy())
        return -values_N

    selection = class_balanced(scores_N, class_scores_N_C, names(12), 6, rng, 2 / 3, keys)
    np.testing.assert_array_equal(seen, [*class_scores_N_C.T, scores_N])
    np.testing.assert_array_equal(selection.indices_B[:2], np.argsort(class_scores_N_C[:, 0])[:2])
    np.testing.assert_array_equal(selection.gains_B[:2], np.sort(class_scores_N_C[:, 0])[:2])


def test_each_ranking_has_noise_of_its_own():
    scores_N = np.random.default_rng(0).random(200)
    keys = power_noise(names(200), np.random.default_rng(1), 1.0)
    selection = class_balanced(
        scores_N, np.stack([scores_N] * 2, axis=1), names(200), 30, np.random.default_rng(2), 1.0, keys
    )
    # one noise for both would give the head of one noisy ranking
    one = top_k(scores_N, names(200), 30, power_noise(names(200), np.random.default_rng(1), 1.0))
    np.testing.assert_array_equal(selection.indices_B[:15], one.indices_B[:15])
    assert set(selection.indices_B) != set(one.indices_B)
