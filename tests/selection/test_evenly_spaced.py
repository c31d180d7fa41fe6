"""Evenly spaced regions: answers worked out by hand, and what holds for any pool."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_al.selection import evenly_spaced


class Fixed:
    """A generator whose offset is given; equal spacings go in the order of the gaps."""

    def __init__(self, offset: float) -> None:
        self._offset = offset

    def random(self) -> float:
        return self._offset

    def permutation(self, count: int) -> np.ndarray:
        return np.arange(count)


def chosen(sizes, taken, budget, rng=None, order=None, first=0):
    """Return the chosen (case, region) of cases of these sizes, with those in ``taken`` annotated."""
    everything = [(case, region) for case, size in enumerate(sizes) for region in range(first, first + size)]
    free = [place for place in everything if place not in taken]
    free = free if order is None else [free[index] for index in order(len(free))]
    places_N_2 = np.array(free, int).reshape(-1, 2)
    taken_M_2 = np.array(sorted(taken), int).reshape(-1, 2)
    names = [f"{case}_{region}" for case, region in free]
    found = evenly_spaced(places_N_2, names, budget, rng or Fixed(0.5), taken_M_2)
    assert (found.gains_B == 0).all()
    return [free[index] for index in found.indices_B]


@pytest.mark.parametrize(
    "size, taken, budget, wanted",
    [
        (12, [], 3, [2, 6, 10]),  # every fourth, from the middle of the first four
        (10, [], 4, [1, 3, 6, 8]),  # spacing 2.5: floor of 1.25, 3.75, 6.25, 8.75
        (9, [4], 2, [1, 7]),  # ends of 4 free regions, spacing (4 + 1/2) / (1 + 1/2) = 3
        (9, [0, 8], 1, [4]),  # the middle of the gap
        (9, [0, 8], 3, [2, 4, 6]),  # spacing 8 / 4
        (12, [0, 4, 11], 1, [8]),  # 7 is wider than 4; 4 + floor(3.5 + 1/2)
        (12, [0, 4, 11], 2, [2, 8]),  # 4 then is wider than 7 / 2 = 3.5
        (12, [0, 3, 11], 2, [6, 8]),  # 8 / 2 = 4 is wider than 3; 8 / 3: floor of 2.67 + 1/2, 5.33 + 1/2
        (7, [0], 1, [4]),  # nothing behind the last one: spacing 6.5 / 1.5 = 4.33
        (7, [6], 1, [2]),  # the same from the other end
        (5, [2], 9, [0, 1, 3, 4]),
    ],
)
def test_one_case_by_hand(size, taken, budget, wanted):
    assert chosen([size], {(0, region) for region in taken}, budget) == [(0, region) for region in wanted]


def test_each_case_has_of_the_batch_what_its_length_asks_for():
    found = chosen([4, 8, 12], set(), 6)
    assert [sum(case == one for case, _ in found) for one in range(3)] == [1, 2, 3]
    assert np.diff([region for case, region in found if case == 2]).tolist() == [4, 4]


def test_a_case_without_annotation_comes_before_any_gap():
    assert {case for case, _ in chosen([3, 90], {(1, 0)}, 1)} == {0}
    assert [case for case, _ in chosen([3, 90], {(1, 0)}, 2)] == [0, 1]


def test_with_fewer_regions_than_cases_the_cases_are_evenly_spaced_and_their_slices_differ():
    found = chosen([9] * 9, set(), 3)
    assert [case for case, _ in found] == [1, 4, 7]  # (i + 1/2) * 9 / 3
    golden = (5**0.5 - 1) / 2
    assert [region for _, region in found] == [int((0.5 + golden * case) % 1 * 9) for case in (1, 4, 7)]
    assert len({region for _, region in found}) == 3


def test_cases_between_annotated_ones_come_first():
    assert [case for case, _ in chosen([5] * 9, {(0, 2), (8, 2)}, 1)] == [4]
    assert [case for case, _ in chosen([5] * 9, {(0, 2), (8, 2)}, 3)] == [2, 4, 6]
    assert [case for case, _ in chosen([1] * 12, {(0, 0), (4, 0), (11, 0)}, 2)] == [2, 8]


def test_numbers_of_regions_need_not_begin_at_0():
    far = chosen([9, 7], {(0, 104)}, 4, first=100)
    assert [(case, region - 100) for case, region in far] == chosen([9, 7], {(0, 4)}, 4)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_pool_changes_nothing(seed):
    taken = {(0, 3), (2, 1)}
    plain = chosen([9, 5, 7], taken, 6, np.random.default_rng(seed))
    shuffled = chosen([9, 5, 7], taken, 6, np.random.default_rng(seed), np.random.default_rng(seed + 9).permutation)
    assert plain == shuffled


def test_another_offset_gives_another_choice():
    offsets = {tuple(chosen([40, 40], set(), 4, np.random.default_rng(seed))) for seed in range(6)}
    assert len(offsets) > 1


def test_slices_of_equal_cases_are_not_all_at_one_level():
    levels = [region for _, region in chosen([20] * 20, set(), 20, np.random.default_rng(0))]
    assert max(np.bincount(levels)) <= 2
    assert min(levels) <= 2
    assert max(levels) >= 17


def spacings(sizes, taken):
    """Return the spacing of each gap: between annotated regions, and twice the distance from an end."""
    found = []
    for case, size in enumerate(sizes):
        own = sorted(region for one, region in taken if one == case)
        found += [2 * (own[0] + 0.5), 2 * (size - 0.5 - own[-1]), *np.diff(own)]
    return found


@pytest.mark.parametrize("seed", range(20))
def test_no_batch_of_the_size_leaves_a_much_wider_spacing(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(4, 30, size=4).tolist()
    taken = {(case, int(rng.integers(size))) for case, size in enumerate(sizes)}
    for budget in (1, 3, 7):
        after = taken | set(chosen(sizes, taken, budget, np.random.default_rng(seed)))
        widest = max(spacings(sizes, after))
        free = [
            (case, region) for case, size in enumerate(sizes) for region in range(size) if (case, region) not in taken
        ]
        for _ in range(200):
            drawn = {free[index] for index in rng.permutation(len(free))[:budget]}
            assert widest <= max(spacings(sizes, taken | drawn)) + 1  # places are whole numbers


def test_batch_after_batch_it_stays_even():
    sizes, taken = [30, 12, 21], set()
    for round_number in range(6):
        batch = chosen(sizes, taken, 5, np.random.default_rng(round_number))
        assert not taken & set(batch)
        taken |= set(batch)
    widest = max(spacings(sizes, taken))
    assert widest <= 2 * sum(sizes) / len(taken) + 1
    assert [sum(case == one for case, _ in taken) for one in range(3)] == pytest.approx(
        [30 * size / 63 for size in sizes], abs=2.5
    )


@pytest.mark.parametrize("budget", [-1, 0])
def test_nothing_is_asked_for_and_nothing_is_there(budget):
    assert chosen([4], set(), budget) == []
    assert chosen([], set(), 3) == []
