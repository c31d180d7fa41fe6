from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import special

from nnunet_al.scoring.group_weights import GroupWeights, group_weights, softmax

E = math.e


def labelled(seed: int, n: int = 20, groups: str = "abc") -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    return rng.random(n), [*groups, *rng.choice(list(groups), n - len(groups))]


def test_two_groups_by_hand():
    # mean 0.7, σ 0.1, so z = 1 and -1; e / (e + 1/e) = 0.8808
    result = group_weights([0.6, 0.8], ["a", "b"], ["b", "a"])
    assert result.z == pytest.approx({"a": 1, "b": -1})
    assert result.weights == pytest.approx({"a": 0.880797, "b": 0.119203}, abs=1e-6)
    assert result.mean_dice == {"a": 0.6, "b": 0.8}
    assert result.counts == {"a": 1, "b": 1}
    assert None not in result.mean_dice.values()
    assert list(result.weights) == ["a", "b"]


def test_three_groups_by_hand():
    # mean (0.6 + 0.6 + 0.9 + 0.9) / 4 = 0.75, σ 0.15, so z = 1, -1, -1; e / (e + 2 / e)
    result = group_weights([0.6, 0.9, 0.6, 0.9], list("abac"), "abc")
    assert result.z == pytest.approx({"a": 1, "b": -1, "c": -1})
    assert result.weights == pytest.approx({"a": E / (E + 2 / E), "b": 1 / E / (E + 2 / E), "c": 1 / E / (E + 2 / E)})


def test_the_standard_deviation_is_that_of_cases_and_divides_by_their_number():
    # cases 0.5 0.7 0.8 1.0: mean 0.75, σ² = (0.0625 + 0.0025 + 0.0025 + 0.0625) / 4 = 0.0325; groups 0.6 and 0.9
    result = group_weights([0.5, 0.7, 0.8, 1.0], list("aabb"), "ab")
    assert result.z == pytest.approx({"a": 0.15 / math.sqrt(0.0325), "b": -0.15 / math.sqrt(0.0325)})


def test_groups_that_are_equally_good_weigh_the_same_whatever_their_spread():
    result = group_weights([0.5, 1.0, 0.75, 0.75], list("aabb"), "ab")
    assert result.z == {"a": 0, "b": 0}
    assert result.weights == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize(
    "dice", [[0.9, 0.9, 0.9], [0.1 + 0.2, 0.3, 0.3], [0.7], [0.0, 0.0], [1.0, 1.0, np.nextafter(1, 0)]]
)
def test_without_a_deviation_all_weigh_the_same(dice):
    result = group_weights(dice, list("abb")[: len(dice)], "abcd")
    assert result.weights == dict.fromkeys("abcd", 0.25)
    assert result.z == dict.fromkeys("abcd", 0)
    assert {group for group, mean in result.mean_dice.items() if mean is None} == set("abcd") - set("abb"[: len(dice)])


def test_a_small_deviation_is_one():
    result = group_weights([0.5, 0.5 + 1e-9], ["a", "b"], "ab")
    assert result.z == pytest.approx({"a": 1, "b": -1}, abs=1e-6)


def test_a_group_without_a_labelled_case_counts_like_the_worst():
    # z = 1, -1 and the largest of them once more
    result = group_weights([0.6, 0.8], ["a", "b"], ["a", "b", "new", "n2"])
    assert [group for group, mean in result.mean_dice.items() if mean is None] == ["n2", "new"]
    assert result.z == pytest.approx({"a": 1, "b": -1, "n2": 1, "new": 1})
    assert result.weights["new"] == result.weights["a"] == pytest.approx(E / (3 * E + 1 / E))
    assert result.mean_dice["new"] is None
    assert result.counts["new"] == 0


def test_a_group_that_nobody_labelled_beside_a_single_one():
    # the only labelled group is as good as the mean of all: z = 0 for both
    result = group_weights([0.5, 1.0], ["a", "a"], "ab")
    assert result.z == {"a": 0, "b": 0}
    assert result.weights == {"a": 0.5, "b": 0.5}


def test_no_labelled_case_at_all():
    result = group_weights([], [], "xyz")
    assert result.weights == pytest.approx(dict.fromkeys("xyz", 1 / 3))
    assert result.z == dict.fromkeys("xyz", 0)
    assert list(result.mean_dice.values()) == [None] * 3


@pytest.mark.parametrize("seed", range(5))
def test_weights_sum_to_one_and_follow_the_lack_of_dice(seed):
    result = group_weights(*labelled(seed), known_groups="abcd")
    assert math.fsum(result.weights.values()) == pytest.approx(1, abs=1e-15)
    assert min(result.weights.values()) > 0
    by_dice = sorted("abc", key=lambda group: -result.mean_dice[group])
    weights = [result.weights[group] for group in by_dice]
    assert weights == sorted(weights)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_formula_by_libraries(seed):
    dice, groups = labelled(seed)
    z = [(dice.mean() - dice[[g == group for g in groups]].mean()) / dice.std() for group in "abc"]
    np.testing.assert_allclose(
        list(group_weights(dice, groups, "abc").weights.values()), special.softmax(z), rtol=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
def test_order_and_names_change_no_digit(seed):
    dice, groups = labelled(seed)
    first = group_weights(dice, groups, "abcd")
    order = np.random.default_rng(seed).permutation(len(dice))
    assert group_weights(dice[order], [groups[i] for i in order], "dbcad") == first
    other = dict(zip("abcd", "zyxw", strict=True))
    renamed = group_weights(dice, [other[group] for group in groups], "wxyz")
    assert renamed.weights == {other[group]: weight for group, weight in first.weights.items()}
    assert renamed.z == {other[group]: z for group, z in first.z.items()}
    assert renamed.mean_dice["w"] is None


@pytest.mark.parametrize("seed", range(5))
def test_shift_and_scale_of_dice_change_nothing(seed):
    dice, groups = labelled(seed)
    first = group_weights(dice, groups, "abc").weights
    assert group_weights(0.2 + 0.5 * dice, groups, "abc").weights == pytest.approx(first)


@pytest.mark.parametrize("seed", range(5))
def test_a_group_that_gets_worse_counts_more(seed):
    dice, groups = labelled(seed, groups="ab")
    mask = np.array([group == "a" for group in groups])
    weights = []
    for loss in (0.0, 0.1, 0.3, 0.9, 2.7):
        lowered = dice - loss * mask
        result = group_weights(lowered, groups, "ab")
        if result.mean_dice["a"] < result.mean_dice["b"]:
            weights.append(result.weights["a"])
    assert len(weights) >= 3
    assert all(low < high for low, high in itertools.pairwise(weights))


def ratio(result: GroupWeights) -> float:
    return max(result.weights.values()) / min(result.weights.values())


def test_one_case_against_49():
    # mean 0.8 - 0.6 / 50, σ = 0.6 · √49 / 50: z = 49 / √49 = 7 and -1 / √49, whatever the difference
    dice, groups = [0.2, *[0.8] * 49], ["a", *"b" * 49]
    assert ratio(group_weights(dice, groups, "ab")) == pytest.approx(math.exp(50 / 7)) == pytest.approx(1265, abs=1)
    # 5 cases without a deficit beside the one and beside the 49: z = 7 / 6 and -1 / 7 · 49 / 54
    shrunk = group_weights(dice, groups, "ab", shrinkage=5)
    assert shrunk.z == pytest.approx({"a": 7 / 6, "b": -7 / 54})
    assert ratio(shrunk) == pytest.approx(3.655, abs=1e-3)
    assert ratio(group_weights(dice, groups, "ab", largest_ratio=10)) == pytest.approx(10)
    assert ratio(group_weights(dice, groups, "ab", shrinkage=5, largest_ratio=3)) == pytest.approx(3)


def test_a_gap_of_a_hundredth():
    # within groups ± 0.005; a tenth of the cases 0.01 behind: σ² = 0.005² + 0.1 · 0.9 · 0.01² = 3.4e-5
    dice = np.array([0.80] * 10 + [0.81] * 90) + 0.005 * np.tile([1, -1], 50)
    groups = [*"a" * 10, *"b" * 90]
    assert ratio(group_weights(dice, groups, "ab")) == pytest.approx(math.exp(0.01 / 3.4e-5**0.5))
    assert ratio(group_weights(dice, groups, "ab")) == pytest.approx(5.56, abs=0.01)
    assert ratio(group_weights(dice, groups, "ab", largest_ratio=2)) == pytest.approx(2)


@pytest.mark.parametrize("seed", range(5))
def test_a_ratio_and_shrinkage_agree_with_the_formula_and_keep_the_order(seed):
    dice, groups = labelled(seed)
    of = [dice[[g == group for g in groups]] for group in "abc"]
    z = np.array([(dice.mean() - one.mean()) / dice.std() * len(one) / (len(one) + 2) for one in of])
    shrunk = group_weights(dice, groups, "abc", shrinkage=2)
    np.testing.assert_allclose(list(shrunk.weights.values()), special.softmax(z), rtol=1e-12)
    capped = group_weights(dice, groups, "abc", shrinkage=2, largest_ratio=1.2)
    np.testing.assert_allclose(
        list(capped.weights.values()), special.softmax(z * min(1, np.log(1.2) / np.ptp(z))), rtol=1e-12
    )
    assert sorted("abc", key=capped.weights.__getitem__) == sorted("abc", key=shrunk.weights.__getitem__)
    assert group_weights(dice, groups, "abc", largest_ratio=1e6) == group_weights(dice, groups, "abc", 0, None)
    assert group_weights(dice, groups, "abcd", largest_ratio=1).weights == dict.fromkeys("abcd", 0.25)


def test_a_group_without_a_case_counts_like_the_worst_after_shrinkage():
    result = group_weights([0.6, 0.8], ["a", "b"], ["a", "b", "new"], shrinkage=1)
    assert result.z == pytest.approx({"a": 0.5, "b": -0.5, "new": 0.5})
    assert group_weights([], [], "xy", 1, 2).z == {"x": 0, "y": 0}


@pytest.mark.parametrize("shift", [-1e4, -3.0, 1e4])
def test_softmax_does_not_know_where_zero_is(shift):
    z = np.array([0.5, -1.25, 2.0])
    np.testing.assert_allclose(softmax(z + shift), special.softmax(z), rtol=1e-11)


def test_the_order_of_groups_changes_no_digit_of_the_softmax():
    z = np.random.default_rng(0).standard_normal(50)
    for seed in range(9):
        order = np.random.default_rng(seed).permutation(len(z))
        np.testing.assert_array_equal(softmax(z[order]), softmax(z)[order])


@pytest.mark.parametrize(
    "dice,groups,known",
    [
        ([math.nan], ["a"], "a"),
        ([math.inf, 0.5], ["a", "a"], "a"),
        ([0.5], ["b"], "a"),
        ([0.5, 0.6], ["a"], "a"),
        ([], [], ""),
    ],
)
def test_what_makes_no_sense_is_refused(dice, groups, known):
    with pytest.raises(AssertionError):
        group_weights(dice, groups, known)
