"""How evenly a model serves groups of cases: the spread of their mean Dice, and how sure one can be of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunet_al.evaluation.bootstrap import Interval, finite_values, percentile_interval, resampled_means


@dataclass(frozen=True)
class GroupMetrics:
    """Means over cases and groups, and the measures of fairness between them.

    Attributes
    ----------
    overall : mean over all cases, not over groups
    n : number of cases
    mean : mean of each group, sorted by name; None for a known group without a case
    counts : number of cases of each group
    delta, essp, largest_gap : see the functions of these names; over groups with cases
    number : number of groups with cases. Δ is a sum over them, so that it compares only where they are equally many.
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

    Equation 4 of Danaee et al. (MIDL 2026), after Tian et al. (ICLR 2024). It is ``overall`` where all groups are
    served alike.
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

    Parameters
    ----------
    values_N : sequence of float
        one finite value for each of N >= 1 cases, for example its Dice coefficient. Neither their order nor the names
        of the groups change a digit.
    groups_N : sequence of str
        the group of each case.
    known : iterable of str
        groups to list even where they have no case.
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

    Each group is resampled with replacement to its own size, so that none is ever empty and the groups' shares stay
    what they are. Two things to know of the intervals: a group of one case is the same in every resample, so that its
    interval has no width and says nothing of how sure its mean is; and Δ and the largest gap of resamples are too high
    on average, and ESSP too low, since Δ sums absolute values, to which noise only adds. Where groups are served nearly
    alike, the interval of Δ may therefore lie above Δ itself, and hardly ever reaches 0.

    Parameters
    ----------
    values_N, groups_N : sequence
        as for ``group_metrics``. The same generator, values and order of cases give the same intervals, whatever the
        groups are called.
    rng : numpy generator
        (resamples, n_g) indices are drawn for one group after the other, by the first case of each.
    resamples : int
        at least 1.
    level : float
        share of the resamples inside the interval, more than 0 and less than 1.

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
    """Return the measures of fairness with their intervals, ready for JSON; the order of the cases changes nothing.

    Parameters
    ----------
    dice_of_case : mapping of case to float
        at least one case; each has a group.
    group_of_case : mapping of case to group
        may hold more cases, for example those for training: their groups are listed with n 0 and None.
    rng, resamples, level
        as for ``bootstrap_intervals``, which says what to know of the intervals.

    Returns
    -------
    dict
        ``number`` of groups with cases, ``n``, ``overall``, ``delta``, ``essp``, ``largest_gap``, ``intervals`` of
        these four, and ``by_group``: for each group ``n``, ``dice`` and ``interval``. With cases in one group only,
        nothing can be compared: the three measures and their intervals are None, and not those of a fair model.
    """
    cases = sorted(dice_of_case)
    assert all(case in group_of_case for case in cases), "a case has no group"
    values_N = [dice_of_case[case] for case in cases]
    groups_N = [group_of_case[case] for case in cases]
    metrics = group_metrics(values_N, groups_N, known=group_of_case.values())
    intervals, of_group = bootstrap_intervals(values_N, groups_N, rng, resamples, level)
    compared = metrics.number > 1
    measures = {"delta": metrics.delta, "essp": metrics.essp, "largest_gap": metrics.largest_gap}
    return {
        "number": metrics.number,
        "n": metrics.n,
        "overall": metrics.overall,
        **{name: value if compared else None for name, value in measures.items()},
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

    A pair is what both were measured on, for example one seed. A few pairs give an interval that is too narrow, and a
    single one an interval without width: state N beside it.
    """
    assert len(a_N) == len(b_N), f"{len(a_N)} values are paired with {len(b_N)}"
    difference_N = finite_values(a_N) - finite_values(b_N)
    return _mean(difference_N.tolist()), percentile_interval(resampled_means(difference_N, rng, resamples), level)


def _by_group(values_N: np.ndarray | Sequence[float], groups_N: Sequence[str]) -> dict[str, np.ndarray]:
    # by their first case, not by name: what a group is called does not decide which numbers are drawn for it
    values_N = finite_values(values_N)
    assert len(values_N) == len(groups_N), f"{len(values_N)} values for {len(groups_N)} cases"
    lists: dict[str, list[float]] = {}
    for value, group in zip(values_N.tolist(), groups_N, strict=True):
        lists.setdefault(group, []).append(value)
    return {group: np.array(of_group) for group, of_group in lists.items()}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
