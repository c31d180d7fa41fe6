from __future__ import annotations

import numpy as np
import pytest

from nnunet_al.selection.ranking_noise import power_noise, ranking
from nnunet_al.selection.selective import selective_union
from nnunet_al.selection.top_k import top_k

from .pools import chosen, names


def test_a_worked_example():
    names_N = ["a", "b", "c", "d", "e"]
    target_N, boundary_N = np.array([9.0, 8, 7, 1, 0]), np.array([5.0, 6, 1, 2, 3])
    # target a, boundary b, target c (b is taken), boundary e (a is taken), target d
    selection = selective_union(target_N, boundary_N, target_N, names_N, 5)
    assert chosen(selection, names_N) == ["a", "b", "c", "e", "d"]
    np.testing.assert_array_equal(selection.gains_B, [9, 6, 7, 3, 1])


@pytest.mark.parametrize("budget", [1, 2, 5, 6])
def test_disjoint_lists_give_the_plain_union(budget):
    target_N, boundary_N = np.array([9.0, 8, 7, 0, 0, 0, 1]), np.array([0.0, 0, 0, 6, 5, 4, 1])
    plain = {
        *top_k(target_N, names(7), (budget + 1) // 2).indices_B,
        *top_k(boundary_N, names(7), budget // 2).indices_B,
    }
    assert len(plain) == budget
    assert set(selective_union(target_N, boundary_N, target_N, names(7), budget).indices_B) == plain


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("budget", [7, 16])
def test_overlapping_lists_fill_the_batch_and_keep_the_union(seed, budget):
    rng = np.random.default_rng(seed)
    target_N = rng.integers(0, 12, size=25).astype(float)
    boundary_N = target_N + rng.integers(0, 6, size=25)
    half = (budget + 1) // 2
    plain = {*top_k(target_N, names(25), half).indices_B, *top_k(boundary_N, names(25), budget // 2).indices_B}
    assert len(plain) < budget  # the trap: the union alone is too small
    selection = selective_union(target_N, boundary_N, target_N, names(25), budget)
    assert len(selection) == budget
    assert plain <= set(selection.indices_B)
    np.testing.assert_array_equal(selection.gains_B[0::2], target_N[selection.indices_B[0::2]])
    np.testing.assert_array_equal(selection.gains_B[1::2], boundary_N[selection.indices_B[1::2]])


def test_one_list_twice_is_its_head():
    scores_N = np.random.default_rng(0).random(30)
    np.testing.assert_array_equal(
        selective_union(scores_N, scores_N, scores_N, names(30), 9).indices_B, top_k(scores_N, names(30), 9).indices_B
    )


def test_each_list_has_noise_of_its_own():
    scores_N = np.random.default_rng(0).random(30)
    keys = power_noise(names(30), np.random.default_rng(1), 1.0)
    first, second = (ranking(scores_N, names(30), keys) for _ in range(2))
    assert list(first) != list(second)
    selection = selective_union(
        scores_N, scores_N, scores_N, names(30), 2, power_noise(names(30), np.random.default_rng(1), 1.0)
    )
    assert list(selection.indices_B) == [first[0], next(index for index in second if index != first[0])]


@pytest.mark.parametrize("kind", ["target", "boundary"])
def test_a_list_without_regions_hands_its_turns_to_the_other(kind):
    names_N = ["a", "b", "c", "d"]
    nan = np.nan
    full_N, empty_N, mean_N = np.array([1.0, 4, 3, 2]), np.array([nan, nan, 5, nan]), np.zeros(4)
    lists = (empty_N, full_N) if kind == "target" else (full_N, empty_N)
    selection = selective_union(*lists, mean_N, names_N, 4)
    assert chosen(selection, names_N) == (["c", "b", "d", "a"] if kind == "target" else ["b", "c", "d", "a"])


def test_regions_without_target_and_boundary_follow_by_their_mean():
    names_N = ["a", "b", "c", "d"]
    nan = np.nan
    target_N, boundary_N = np.array([nan, nan, 1, nan]), np.array([nan, nan, 1, nan])
    selection = selective_union(target_N, boundary_N, np.array([0.1, 0.3, 9, 0.2]), names_N, 3)
    assert chosen(selection, names_N) == ["c", "b", "d"]
    np.testing.assert_array_equal(selection.gains_B, [1, 0.3, 0.2])
    nothing = np.full(4, nan)
    assert chosen(selective_union(nothing, nothing, np.arange(4.0), names_N, 4), names_N) == ["d", "c", "b", "a"]


def test_a_region_without_a_target_is_not_preferred_to_one_with_a_target_of_zero():
    names_N = ["a", "b"]
    selection = selective_union(np.array([np.nan, 0.0]), np.full(2, np.nan), np.zeros(2), names_N, 1)
    assert chosen(selection, names_N) == ["b"]
