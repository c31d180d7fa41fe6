from __future__ import annotations

import math

import numpy as np
import pytest

from nnunet_al.selection.random_draw import random_draw, random_foreground, stratified_draw
from nnunet_al.selection.selection import Selection, order_by_name, rank_by_name
from nnunet_al.selection.top_k import top_k


def names(count: int) -> list[str]:
    return [f"case_{index:03d}" for index in range(count)]


def chosen(selection: Selection, names_N: list[str]) -> list[str]:
    return [names_N[index] for index in selection.indices_B]


def test_top_k_is_the_sorted_head_with_its_scores():
    scores_N = np.random.default_rng(0).normal(size=50)
    selection = top_k(scores_N, names(50), 7)
    np.testing.assert_array_equal(selection.gains_B, np.sort(scores_N)[::-1][:7])
    np.testing.assert_array_equal(scores_N[selection.indices_B], selection.gains_B)
    assert selection.indices_B.dtype == np.int64


def test_top_k_breaks_ties_by_name():
    assert chosen(top_k(np.array([1.0, 1, 2, 1]), ["d", "a", "z", "b"], 3), ["d", "a", "z", "b"]) == ["z", "a", "b"]


def test_ranks_invert_the_order_of_names():
    names_N = ["b", "ä", "a", "B", "a10", "a9"]
    order_N = order_by_name(names_N)
    assert [names_N[index] for index in order_N] == sorted(names_N)
    np.testing.assert_array_equal(order_N[rank_by_name(names_N)], np.arange(6))


def test_a_name_twice_is_refused():
    with pytest.raises(AssertionError, match="same name"):
        top_k(np.zeros(2), ["a", "a"], 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_must_be_finite(bad):
    with pytest.raises(AssertionError, match="finite"):
        top_k(np.array([0.0, bad]), ["a", "b"], 1)


def test_a_smaller_random_batch_begins_a_larger_one():
    small = random_draw(names(30), 5, np.random.default_rng(3))
    large = random_draw(names(30), 12, np.random.default_rng(3))
    np.testing.assert_array_equal(small.indices_B, large.indices_B[:5])


def test_random_draw_is_uniform():
    rng = np.random.default_rng(0)
    counts = np.zeros(6)
    for _ in range(3000):
        counts[random_draw(names(6), 2, rng).indices_B] += 1
    # binomial(3000, 1/3): standard deviation 26
    np.testing.assert_allclose(counts, 1000, atol=5 * 26)


@pytest.mark.parametrize("share, budget", [(1 / 3, 10), (1 / 3, 9), (0.07, 100), (0.5, 7), (0.0, 5), (1.0, 5)])
def test_foreground_share_is_rounded_up(share, budget):
    foreground_N = np.arange(300) % 2  # half of the pool
    selection = random_foreground(foreground_N, names(300), budget, np.random.default_rng(0), share)
    quota = math.ceil(round(share * budget, 9))
    assert selection.gains_B.sum() == quota
    assert (foreground_N[selection.indices_B[:quota]] == 1).all()
    assert len(selection) == budget


def test_too_few_foreground_regions_are_all_taken_and_the_batch_filled():
    foreground_N = np.zeros(40)
    foreground_N[[3, 17]] = 5
    selection = random_foreground(foreground_N, names(40), 30, np.random.default_rng(0))
    assert {3, 17} == set(selection.indices_B[:2])
    assert len(selection) == 30


def test_the_rest_is_uniform_over_all_that_remain():
    # one of 3 foreground regions takes the share; the 7 others, the two foreground ones among them, are equally likely
    foreground_N = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    rng = np.random.default_rng(0)
    second = np.zeros(8)
    for _ in range(7000):
        second[random_foreground(foreground_N, names(8), 2, rng, share=0.5).indices_B[1]] += 1
    # foreground: 2/3 of the time not taken, then 1 of 7; background: 1 of 7
    np.testing.assert_allclose(second, [667, 667, 667, 1000, 1000, 1000, 1000, 1000], atol=5 * 30)


def test_without_foreground_it_is_a_uniform_draw():
    selection = random_foreground(np.zeros(9), names(9), 4, np.random.default_rng(0))
    assert len(selection) == 4
    assert (selection.gains_B == 0).all()


CASE_SIZES = {"a": 1, "b": 40, "c": 3, "d": 16}


def a_pool() -> tuple[list[str], list[str]]:
    """Names of regions, and the case of each."""
    cases = [case for case, size in CASE_SIZES.items() for _ in range(size)]
    return [f"{case}_{index:02d}" for index, case in enumerate(cases)], cases


@pytest.mark.parametrize("count", [1, 7, 30, 59])
def test_a_part_of_the_pool_has_of_each_case_its_share(count):
    names_N, cases_N = a_pool()
    drawn = stratified_draw(names_N, cases_N, count, np.random.default_rng(count))
    assert len(set(drawn.tolist())) == count
    assert drawn.tolist() == sorted(drawn.tolist())
    for case, size in CASE_SIZES.items():
        share = size * count / len(names_N)
        found = sum(cases_N[index] == case for index in drawn)
        assert math.floor(share) <= found <= math.ceil(share), case


def test_each_region_comes_into_the_part_equally_often():
    names_N, cases_N = a_pool()
    times_N = np.zeros(len(names_N))
    for seed in range(3000):
        times_N[stratified_draw(names_N, cases_N, 6, np.random.default_rng(seed))] += 1
    # a tenth of 3000, with a standard deviation of 16; the only region of case a is none that is always left out
    assert 230 < times_N.min() <= times_N.max() < 370


def test_the_part_does_not_depend_on_the_order_of_the_pool_and_all_is_all():
    names_N, cases_N = a_pool()
    part = {names_N[index] for index in stratified_draw(names_N, cases_N, 11, np.random.default_rng(3))}
    order = np.random.default_rng(0).permutation(len(names_N))
    names_M, cases_M = [names_N[index] for index in order], [cases_N[index] for index in order]
    assert {names_M[index] for index in stratified_draw(names_M, cases_M, 11, np.random.default_rng(3))} == part
    assert {names_N[index] for index in stratified_draw(names_N, cases_N, 11, np.random.default_rng(4))} != part
    for count in (60, 61):
        assert stratified_draw(names_N, cases_N, count, np.random.default_rng(0)).tolist() == list(range(60))
    assert stratified_draw([], [], 5, np.random.default_rng(0)).tolist() == []
