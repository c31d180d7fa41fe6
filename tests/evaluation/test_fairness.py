from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from nnunet_al.evaluation import bootstrap
from nnunet_al.evaluation.fairness import (
    bootstrap_intervals,
    delta,
    essp,
    fairness_report,
    group_metrics,
    largest_gap,
    paired_difference,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def cohort(n: int, seed: int = 0, means: tuple[float, ...] = (0.7, 0.8, 0.9)) -> tuple[np.ndarray, list[str]]:
    """n cases a group, mixed."""
    groups = [f"g{i}" for i in range(len(means))] * n
    return np.array(means * n) + 0.05 * rng(seed).standard_normal(len(groups)), groups


def test_three_groups_by_hand():
    # mean over cases (0.6 + 0.8 + 0.9 + 0.9 + 0.8) / 5 = 0.8; means of groups 0.7, 0.9, 0.8; so Δ = 0.1 + 0.1 + 0
    metrics = group_metrics([0.6, 0.8, 0.9, 0.9, 0.8], list("aabbc"))
    assert metrics.overall == pytest.approx(0.8)
    assert metrics.mean == pytest.approx({"a": 0.7, "b": 0.9, "c": 0.8})
    assert metrics.counts == {"a": 2, "b": 2, "c": 1}
    assert (metrics.n, metrics.number) == (5, 3)
    assert metrics.delta == pytest.approx(0.2)
    assert metrics.essp == pytest.approx(0.8 / 1.2)
    assert metrics.largest_gap == pytest.approx(0.2)


def test_the_overall_mean_is_over_cases_not_groups():
    # three of four cases are of a: 0.25 * 0.5 + 0.75 * 0.9 = 0.8, and Δ = 0.1 + 0.3
    metrics = group_metrics([0.9, 0.9, 0.9, 0.5], list("aaab"))
    assert metrics.overall == pytest.approx(0.8)
    assert metrics.delta == pytest.approx(0.4)
    assert metrics.largest_gap == pytest.approx(0.4)


def test_equal_groups_lose_nothing():
    metrics = group_metrics([0.5, 1.0, 1.0, 0.5], list("aabb"))
    assert (metrics.delta, metrics.largest_gap) == (0, 0)
    assert metrics.essp == metrics.overall == 0.75


def test_one_group_is_equal_to_itself():
    metrics = group_metrics([0.1, 0.2, 0.4], list("aaa"))
    assert (metrics.delta, metrics.largest_gap, metrics.number) == (0, 0, 1)


def test_a_known_group_without_a_case_is_listed_and_counts_for_nothing():
    with_it = group_metrics([0.7, 0.9], list("ab"), known=["c", "a"])
    without = group_metrics([0.7, 0.9], list("ab"))
    assert with_it.mean["c"] is None
    assert with_it.counts == {"a": 1, "b": 1, "c": 0}
    for name in ("overall", "n", "delta", "essp", "largest_gap", "number"):
        assert getattr(with_it, name) == getattr(without, name)


class TestTable3OfThePaper:
    """Table 3, strong bias: overall and group means are printed to two digits."""

    def test_trained_on_group_2(self):
        # 15 cases of each group
        metrics = group_metrics([0.75] * 15 + [0.93] * 15, ["1"] * 15 + ["2"] * 15)
        assert metrics.overall == pytest.approx(0.84)
        assert metrics.delta == pytest.approx(0.18)
        assert metrics.essp == pytest.approx(0.712, abs=5e-4)

    def test_trained_on_group_1(self):
        # from the printed overall 0.89, which is rounded: the mean of 0.89 and 0.88 is not
        assert delta(0.89, [0.89, 0.88]) == pytest.approx(0.01)
        assert essp(0.89, 0.01) == pytest.approx(0.881, abs=5e-4)

    def test_the_pooled_row_does_not_follow_from_equations_3_and_4(self):
        # printed: Δ 0.04 and ESSP 0.91, which is the overall DSC; 0.91 and 0.93, 0.88 give 0.05 and 0.867
        assert delta(0.91, [0.88, 0.93]) == pytest.approx(0.05)
        assert essp(0.91, delta(0.91, [0.88, 0.93])) == pytest.approx(0.867, abs=5e-4)


def test_the_largest_gap():
    assert largest_gap([0.75, 0.93, 0.8]) == pytest.approx(0.18)


@pytest.mark.parametrize("seed", range(3))
def test_order_and_names_change_no_digit(seed):
    values, groups = cohort(11, seed)
    first = group_metrics(values, groups)
    order = rng(seed).permutation(len(groups))
    assert group_metrics(values[order], [groups[i] for i in order]) == first
    other = {"g0": "z", "g1": "y", "g2": "x"}
    renamed = group_metrics(values, [other[group] for group in groups])
    assert {other[group]: mean for group, mean in first.mean.items()} == renamed.mean
    assert (renamed.delta, renamed.essp, renamed.overall) == (first.delta, first.essp, first.overall)


def test_fairness_falls_as_groups_drift_apart():
    # means 0.8 -+ x: Δ = 2 x
    metrics = [group_metrics([0.8 - x, 0.8 + x], list("ab")) for x in (0.0, 0.05, 0.1, 0.2)]
    assert [m.delta for m in metrics] == pytest.approx([0, 0.1, 0.2, 0.4])
    values = [m.essp for m in metrics]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 4


@pytest.mark.parametrize("call", [lambda: group_metrics([], []), lambda: delta(0.5, []), lambda: largest_gap([])])
def test_empty_input_is_refused(call):
    with pytest.raises(AssertionError):
        call()


@pytest.mark.parametrize("values", [[0.5, math.nan], [0.5, math.inf], [0.5], [[0.5, 0.5]]])
def test_values_must_be_finite_and_one_each(values):
    with pytest.raises(AssertionError):
        group_metrics(values, ["a", "b"])


def test_intervals_by_hand():
    # resamples of a = (0, 1) have the mean m = 0, 1/2 or 1 with chances 1/4, 1/2, 1/4; b = (1/2) is always itself.
    # overall (2 m + 1/2) / 3 = 1/6, 1/2, 5/6; Δ = 1/6 + 1/3, 0, 1/3 + 1/6; ESSP = 1/9, 1/2, 5/9; gap = 1/2, 0, 1/2
    overall, of_group = bootstrap_intervals([0.0, 1.0, 0.5], list("aab"), rng())
    assert overall["overall"] == pytest.approx((1 / 6, 5 / 6))
    assert overall["delta"] == pytest.approx((0, 0.5))
    assert overall["essp"] == pytest.approx((1 / 9, 5 / 9))
    assert overall["largest_gap"] == pytest.approx((0, 0.5))
    assert of_group == {"a": (0, 1), "b": (0.5, 0.5)}
    # from the 30th to the 70th percentile, the middle one
    assert bootstrap_intervals([0.0, 1.0, 0.5], list("aab"), rng(), level=0.4)[1]["a"] == (0.5, 0.5)


def test_groups_keep_their_sizes():
    # were cases drawn over all groups, the shares and with them the overall mean would change
    intervals, of_group = bootstrap_intervals([0.5] * 6 + [0.75] * 2, list("aaaaaabb"), rng(), resamples=200)
    assert intervals["overall"] == (0.5625, 0.5625)
    assert intervals["delta"] == (0.25, 0.25)
    assert of_group == {"a": (0.5, 0.5), "b": (0.75, 0.75)}


def _measures(*samples, axis=-1):
    """The four measures as scipy wants them: of samples with resamples before the axis."""
    means = np.stack([sample.mean(axis=axis) for sample in samples])
    overall = sum(sample.sum(axis=axis) for sample in samples) / sum(sample.shape[axis] for sample in samples)
    spread = np.abs(overall - means).sum(axis=0)
    return np.stack([overall, spread, overall / (1 + spread), means.max(axis=0) - means.min(axis=0)])


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_agrees_with_scipy(level):
    values, groups = cohort(12)
    values, groups = values[:30], groups[:30]
    values = np.concatenate([values, [0.3, 0.4, 0.5]])
    groups = [*groups, "few", "few", "few"]
    samples = [values[[g == group for g in groups]] for group in dict.fromkeys(groups)]
    resamples = 10000
    # its bootstrap draws every sample by itself, which is the stratified one
    theirs = stats.bootstrap(
        samples, _measures, n_resamples=resamples, method="percentile", confidence_level=level, rng=rng(5), batch=1000
    )
    ours, _ = bootstrap_intervals(values, groups, rng(6), resamples, level)
    # a percentile of R draws has the standard deviation sqrt(p (1 - p) / R) / density, about 0.027 standard errors for
    # the 2.5 th percentile of a normal one, and the difference of two is 1.4 times that
    low, high = np.array(list(ours.values())).T
    tolerance = 0.12 * theirs.standard_error
    assert np.all(np.abs(low - theirs.confidence_interval.low) < tolerance)
    assert np.all(np.abs(high - theirs.confidence_interval.high) < tolerance)
    assert np.all(high - low > 10 * tolerance)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_chunks_draw_what_is_drawn_at_once(monkeypatch, at_once):
    whole = bootstrap_intervals(*cohort(5), rng(), 321)
    monkeypatch.setattr(bootstrap, "_DRAWS_PER_CHUNK", at_once)
    assert bootstrap_intervals(*cohort(5), rng(), 321) == whole


def test_intervals_hold_the_estimate_and_shrink_with_the_cases():
    widths = []
    for n in (20, 320):
        values, groups = cohort(n)
        metrics = group_metrics(values, groups)
        intervals, of_group = bootstrap_intervals(values, groups, rng())
        for name, (low, high) in intervals.items():
            assert low < getattr(metrics, name) < high
        for group, (low, high) in of_group.items():
            assert low < metrics.mean[group] < high
        widths.append([high - low for low, high in [*intervals.values(), *of_group.values()]])
    # sixteen times the cases: a quarter of the width
    np.testing.assert_allclose(np.divide(*widths), 4, rtol=0.35)


def test_resamples_of_equal_groups_lie_above_their_delta():
    # the bias upwards that the docstring tells of: Δ is 0, and the interval does not hold it
    values = [0.7, 0.75, 0.81, 0.9, 0.93] * 2
    assert group_metrics(values, list("aaaaabbbbb")).delta == 0
    assert bootstrap_intervals(values, list("aaaaabbbbb"), rng())[0]["delta"][0] > 0


DICE = {"c1": 0.6, "c2": 0.8, "c3": 0.9, "c4": 0.9, "c5": 0.7}
GROUPS = {"c1": "F", "c2": "F", "c3": "M", "c4": "M", "c5": "F", "train1": "M", "train2": "X"}


class TestReport:
    def report(self, **options):
        return fairness_report(DICE, GROUPS, rng(), **options)

    def test_what_is_in_it(self):
        report = self.report()
        assert list(report) == ["number", "n", "overall", "delta", "essp", "largest_gap", "intervals", "by_group"]
        assert (report["number"], report["n"]) == (2, 5)
        # 3.9 / 5; 0.7 and 0.9
        assert report["overall"] == pytest.approx(0.78)
        assert report["delta"] == pytest.approx(0.08 + 0.12)
        assert report["essp"] == pytest.approx(0.78 / 1.2)
        assert report["largest_gap"] == pytest.approx(0.2)
        assert list(report["intervals"]) == ["overall", "delta", "essp", "largest_gap"]
        assert list(report["by_group"]) == ["F", "M", "X"]
        assert report["by_group"]["F"]["dice"] == pytest.approx(0.7)
        assert report["by_group"]["F"]["n"] == 3
        # both cases are alike, and 0.9 is what each resample has
        assert report["by_group"]["M"]["interval"] == pytest.approx([0.9, 0.9])
        assert report["by_group"]["X"] == {"n": 0, "dice": None, "interval": None}

    def test_it_survives_json(self):
        report = self.report()
        assert json.loads(json.dumps(report, allow_nan=False)) == report

    def test_the_intervals_are_those_of_the_cases_in_the_order_of_their_names(self):
        values = list(DICE.values())
        intervals, of_group = bootstrap_intervals(values, list("FFMMF"), rng(), 100, 0.5)
        report = self.report(resamples=100, level=0.5)
        assert {name: tuple(pair) for name, pair in report["intervals"].items()} == intervals
        assert {group: tuple(report["by_group"][group]["interval"]) for group in of_group} == of_group

    def test_the_order_of_the_cases_changes_nothing(self):
        values, groups = cohort(10)
        dice = {f"c{i:02d}": value for i, value in enumerate(values.tolist())}
        group_of_case = dict(zip(dice, groups, strict=True))
        turned = fairness_report(dict(reversed(dice.items())), dict(reversed(group_of_case.items())), rng())
        assert json.dumps(turned) == json.dumps(fairness_report(dice, group_of_case, rng()))

    def test_names_of_groups_change_nothing(self):
        other = {"F": "z", "M": "a", "X": "m"}
        renamed = fairness_report(DICE, {case: other[group] for case, group in GROUPS.items()}, rng())
        report = self.report()
        assert renamed.pop("by_group") == {other[group]: row for group, row in report.pop("by_group").items()}
        assert renamed == report

    def test_a_case_without_a_group_is_refused(self):
        with pytest.raises(AssertionError, match="no group"):
            fairness_report({"c1": 0.5, "c9": 0.5}, GROUPS, rng())

    def test_without_a_case_there_are_no_numbers(self):
        report = fairness_report({}, GROUPS, rng())
        assert (report["number"], report["n"], report["overall"], report["essp"]) == (0, 0, None, None)
        assert list(report) == list(self.report())
        assert report["intervals"] == dict.fromkeys(self.report()["intervals"])
        assert report["by_group"] == {name: {"n": 0, "dice": None, "interval": None} for name in "FMX"}


class TestPairs:
    def test_by_hand(self):
        # differences 0 and 1: resampled means 0, 1/2, 1 with chances 1/4, 1/2, 1/4
        assert paired_difference([0.5, 1.5], [0.5, 0.5], rng()) == (0.5, (0.0, 1.0))
        assert paired_difference([0.5, 1.5], [0.5, 0.5], rng(), level=0.4) == (0.5, (0.5, 0.5))

    def test_what_all_pairs_share_is_certain(self):
        a = np.arange(8.0)
        assert paired_difference(a + 0.25, a, rng()) == (0.25, (0.25, 0.25))

    def test_turned_round(self):
        a, b = rng(1).random((2, 9))
        mean, (low, high) = paired_difference(a, b, rng())
        back, (back_low, back_high) = paired_difference(b, a, rng())
        assert (back, back_low, back_high) == pytest.approx((-mean, -high, -low))
        assert low < mean < high

    def test_agrees_with_scipy(self):
        a, b = rng(2).random((2, 15))

        def difference(x, y, axis=-1):
            return np.mean(x - y, axis=axis)

        theirs = stats.bootstrap((a, b), difference, paired=True, n_resamples=10000, method="percentile", rng=rng(3))
        mean, (low, high) = paired_difference(a, b, rng(4), 10000)
        assert mean == pytest.approx(np.mean(a) - np.mean(b))
        tolerance = 0.12 * theirs.standard_error
        assert abs(low - theirs.confidence_interval.low) < tolerance
        assert abs(high - theirs.confidence_interval.high) < tolerance

    @pytest.mark.parametrize("a,b", [([], []), ([1.0], [1.0, 2.0]), ([math.nan], [1.0])])
    def test_what_is_no_pair(self, a, b):
        with pytest.raises(AssertionError):
            paired_difference(a, b, rng())


@pytest.mark.parametrize("options", [{"resamples": 0}, {"level": 0.0}, {"level": 1.0}, {"level": 95}])
def test_numbers_that_mean_nothing(options):
    with pytest.raises(AssertionError):
        bootstrap_intervals([0.5, 0.6], ["a", "b"], rng(), **options)
