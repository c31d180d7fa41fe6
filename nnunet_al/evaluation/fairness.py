"""Fairness of a model between groups of cases: differences of their mean Dice, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunet_al.evaluation.bootstrap import Interval, finite_values, percentile_interval, resampled_means


@dataclass(frozen=True)
class GroupMetrics:
    """Means over cases and groups, and measures of fairness.

    Attributes
    ----------
    overall : mean over all cases, not over groups
    n : number of cases
    mean : mean of each group, sorted by name; None for a known group without a case
    counts : number of cases of each group
    delta, essp, largest_gap : see the functions of these names; over groups with cases
    number : number of groups with cases; Δ is a sum over them, so compare it only for equal numbers of groups
    """

    overall: float
    n: int
    mean: dict[str, float | None]
    counts: dict[str, int]
    delta: float
    essp: float
    largest_gap: float
    number: int


def delta(overall: float, means: Iterable[float]) -> float:
    """Return Δ = Σ_g |overall - DSC_g| over the means of the groups (Danaee et al., MIDL 2026, eq. 3)."""
    means = list(means)
    assert means, "there is no group"
    return math.fsum(abs(overall - mean) for mean in means)


def essp(overall: float, delta: float) -> float:
    """Return the equity-scaled segmentation performance, overall / (1 + Δ).

    Equation 4 of Danaee et al. (MIDL 2026), after Tian et al. (ICLR 2024). It equals ``overall`` where all groups have
    the same mean.
    """
    return overall / (1 + delta)


def largest_gap(means: Iterable[float]) -> float:
    """Return the difference between the best and the worst group's mean, which is 0 for a single group."""
    means = list(means)
    assert means, "there is no group"
    return max(means) - min(means)


def group_metrics(
    values_N: np.ndarray | Sequence[float], groups_N: Sequence[str], known: Iterable[str] = ()
) -> GroupMetrics:
    """Return the means over cases and groups with Δ, ESSP and the largest gap.

    There is one finite value for each of N >= 1 cases, for example its Dice coefficient; the result is bitwise
    independent of their order and the names of the groups. ``known`` groups are listed even if they have no case.
    """
    values = _by_group(values_N, groups_N)
    everything = [value for of_group in values.values() for value in of_group.tolist()]
    overall = _mean(everything)
    means = {group: _mean(of_group.tolist()) for group, of_group in values.items()}
    names = sorted({*values, *known})
    difference = delta(overall, means.values())
    return GroupMetrics(
        overall=overall,
        n=len(everything),
        mean={name: means.get(name) for name in names},
        counts={name: len(values.get(name, ())) for name in names},
        delta=difference,
        essp=essp(overall, difference),
        largest_gap=largest_gap(means.values()),
        number=len(means),
    )


def bootstrap_intervals(
    values_N: np.ndarray | Sequence[float],
    groups_N: Sequence[str],
    rng: np.random.Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """Return percentile intervals of the measures and of each group's mean, from a bootstrap over cases.

    Each group is resampled with replacement to its own size, so that no group is empty and their shares are constant.
    Two limitations: a group of one case is the same in every resample, so its interval has no width and says nothing
    about the uncertainty of its mean; and Δ and the largest gap of resamples are biased upwards, and ESSP downwards,
    because Δ sums absolute values, which noise increases. Where groups have nearly equal means, the interval of Δ may
    therefore lie above Δ itself, and hardly ever reaches 0.

    Parameters
    ----------
    values_N, groups_N : sequence
        as for ``group_metrics``. The same generator, values and order of cases give the same intervals for any names of
        the groups.
    rng : numpy generator
        (resamples, n_g) indices are drawn for one group after the other, in the order of their first cases.
    resamples : int
        at least 1.
    level : float
        share of the resamples inside the interval, between 0 and 1 (both excluded).

    Returns
    -------
    tuple
        ``{"overall", "delta", "essp", "largest_gap": (low, high)}`` and ``{group: (low, high)}``.
    """
    values = _by_group(values_N, groups_N)
    counts_G = np.array([len(of_group) for of_group in values.values()])
    means_R_G = np.stack([resampled_means(of_group, rng, resamples) for of_group in values.values()], axis=1)
    overall_R = means_R_G @ counts_G / counts_G.sum()
    delta_R = np.abs(overall_R[:, None] - means_R_G).sum(axis=1)
    measures_R = {
        "overall": overall_R,
        "delta": delta_R,
        "essp": overall_R / (1 + delta_R),
        "largest_gap": means_R_G.max(axis=1) - means_R_G.min(axis=1),
    }
    return (
        {name: percentile_interval(measure_R, level) for name, measure_R in measures_R.items()},
        {group: percentile_interval(mean_R, level) for group, mean_R in zip(values, means_R_G.T, strict=True)},
    )


def fairness_report(
    dice_of_case: Mapping[str, float],
    group_of_case: Mapping[str, str],
    rng: np.random.Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> dict[str, Any]:
    """Return the measures of fairness with their intervals as a JSON value, independent of the order of the cases.

    Parameters
    ----------
    dice_of_case : mapping of case to float
        each case has a group; without any case all measures are None.
    group_of_case : mapping of case to group
        may hold more cases, for example training cases: their groups are listed with n 0 and None.
    rng, resamples, level
        as for ``bootstrap_intervals``, which describes the limitations of the intervals.

    Returns
    -------
    dict
        ``number`` of groups with cases, ``n``, ``overall``, ``delta``, ``essp``, ``largest_gap``, ``intervals`` of
        these four, and ``by_group``: for each group ``n``, ``dice`` and ``interval``. With cases in one group only,
        there is no comparison: the three measures and their intervals are None instead of the values of a fair model.
    """
    cases = sorted(dice_of_case)
    assert all(case in group_of_case for case in cases), "a case has no group"
    if not cases:
        nothing = dict.fromkeys(("overall", "delta", "essp", "largest_gap"))
        by_group = {name: {"n": 0, "dice": None, "interval": None} for name in sorted({*group_of_case.values()})}
        return {"number": 0, "n": 0, **nothing, "intervals": nothing, "by_group": by_group}
    values_N = [dice_of_case[case] for case in cases]
    groups_N = [group_of_case[case] for case in cases]
    metrics = group_metrics(values_N, groups_N, known=group_of_case.values())
    intervals, of_group = bootstrap_intervals(values_N, groups_N, rng, resamples, level)
    compared = metrics.number > 1
    return {
        "number": metrics.number,
        "n": metrics.n,
        "overall": metrics.overall,
        **{name: getattr(metrics, name) if compared else None for name in ("delta", "essp", "largest_gap")},
        "intervals": {
            name: list(interval) if compared or name == "overall" else None for name, interval in intervals.items()
        },
        "by_group": {
            group: {
                "n": metrics.counts[group],
                "dice": mean,
                "interval": list(of_group[group]) if group in of_group else None,
            }
            for group, mean in metrics.mean.items()
        },
    }


def paired_difference(
    a_N: np.ndarray | Sequence[float],
    b_N: np.ndarray | Sequence[float],
    rng: np.random.Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[float, Interval]:
    """Return the mean of a - b over N >= 1 pairs, and its percentile interval from a bootstrap over pairs.

    Both values of a pair were measured under the same conditions, for example with one seed. With few pairs the
    interval is too narrow, with a single one it has no width: report N with it.
    """
    assert len(a_N) == len(b_N), f"{len(a_N)} values are paired with {len(b_N)}"
    difference_N = finite_values(a_N) - finite_values(b_N)
    return _mean(difference_N.tolist()), percentile_interval(resampled_means(difference_N, rng, resamples), level)


def _by_group(values_N: np.ndarray | Sequence[float], groups_N: Sequence[str]) -> dict[str, np.ndarray]:
    # in the order of their first cases, so that the random numbers of a group do not depend on its name
    values_N = finite_values(values_N)
    assert len(values_N) == len(groups_N), f"{len(values_N)} values for {len(groups_N)} cases"
    lists: dict[str, list[float]] = {}
    for value, group in zip(values_N.tolist(), groups_N, strict=True):
        lists.setdefault(group, []).append(value)
    return {group: np.array(of_group) for group, of_group in lists.items()}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
