"""Weights of groups for fair scores: a group has more weight if the model segments its labelled cases worse."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

# a smaller deviation between Dice coefficients is rounding, not a difference between cases
_NO_DEVIATION = 1e-12


@dataclass(frozen=True)
class GroupWeights:
    """Weights of groups and the values that they are computed from, for all known groups, sorted by name.

    Attributes
    ----------
    weights : w_g, positive, with the sum 1
    z : standardised deficit in Dice, whose softmax the weights are; a substitute for groups without a labelled case
    mean_dice : mean Dice coefficient of the group's labelled cases, None where there is none
    counts : number of labelled cases
    """

    weights: dict[str, float]
    z: dict[str, float]
    mean_dice: dict[str, float | None]
    counts: dict[str, int]


def group_weights(
    dice_N: np.ndarray | Sequence[float],
    groups_N: Sequence[str],
    known_groups: Iterable[str],
    shrinkage: float = 0.0,
    largest_ratio: float | None = None,
) -> GroupWeights:
    """Return w = softmax(z) over the groups with z_g = (mean Dice of all - mean Dice of g) / σ of all labelled cases.

    From section 3.2 of Danaee et al. (MIDL 2026); the score of a case of group g is w_g times its entropy (eq. 2). The
    paper does not specify the standard deviation: here it is the population's, with divisor N. Cases that the paper
    leaves open:

    * σ below 1e-12 (all cases equally good, or a single one): every z is 0 and the weights are equal;
    * a group without a labelled case: z is the largest of the other groups, but at least 0, since the model is not
      known to be good at it;
    * no labelled case at all: every z is 0 and the weights are equal.

    The paper's z says how large a deficit is, not how well it is known: one bad case among 50 has z = 7, and a weight
    1 265 times that of a group of the other 49. And it is relative: a gap of 0.01 counts as much as one of 0.1 if all
    cases are as much more alike. ``shrinkage`` answers the first, ``largest_ratio`` both.

    The result is bitwise independent of the order of the cases and the names of the groups.

    Parameters
    ----------
    dice_N : sequence of float
        finite Dice coefficient of each labelled case.
    groups_N : sequence of str
        the group of each labelled case, one of ``known_groups``.
    known_groups : iterable of str
        at least one group; repetitions count once.
    shrinkage : float
        k >= 0 cases without a deficit that are added to each group: its z is multiplied by n_g / (n_g + k).
    largest_ratio : float, optional
        r >= 1: where the largest weight would be more than r times the smallest, all z are multiplied by one number, so
        that it is r times.
    """
    values_N = np.asarray(dice_N, dtype=np.float64)
    known = sorted(set(known_groups))
    assert known, "there is no group"
    assert values_N.shape == (len(groups_N),), f"{values_N.shape} Dice coefficients for {len(groups_N)} cases"
    assert np.isfinite(values_N).all(), "a Dice coefficient is not finite"
    assert set(groups_N) <= set(known), "a labelled case is of an unknown group"

    values: dict[str, list[float]] = {group: [] for group in known}
    for value, group in zip(values_N.tolist(), groups_N, strict=True):
        values[group].append(value)
    counts = {group: len(of_group) for group, of_group in values.items()}
    mean_dice = {group: _mean(of_group) if of_group else None for group, of_group in values.items()}
    shrunk = {group: 1.0 if shrinkage == 0 else count / (count + shrinkage) for group, count in counts.items()}
    z = _capped(_standardised(values_N.tolist(), mean_dice, shrunk), largest_ratio)
    return GroupWeights(
        weights=dict(zip(known, softmax(np.array(list(z.values()))).tolist(), strict=True)),
        z=z,
        mean_dice=mean_dice,
        counts=counts,
    )


def softmax(z_G: np.ndarray) -> np.ndarray:
    """Return exp(z_g) / Σ_j exp(z_j), float64 (G,), without overflow; adding one number to all z changes nothing."""
    # fsum: the order of the groups, which is that of their names, must not change the last digit
    shifted_G = np.exp(z_G - z_G.max())
    return shifted_G / math.fsum(shifted_G)


def _standardised(
    values: list[float], mean_dice: dict[str, float | None], shrunk: dict[str, float]
) -> dict[str, float]:
    overall = _mean(values) if values else 0.0
    deviation = math.sqrt(_mean([(value - overall) ** 2 for value in values])) if values else 0.0
    if deviation < _NO_DEVIATION:
        return dict.fromkeys(mean_dice, 0.0)
    seen = {
        group: shrunk[group] * (overall - mean) / deviation for group, mean in mean_dice.items() if mean is not None
    }
    substitute = max(0.0, *seen.values())
    return {group: seen.get(group, substitute) for group in mean_dice}


def _capped(z: dict[str, float], largest_ratio: float | None) -> dict[str, float]:
    spread = max(z.values()) - min(z.values())
    if largest_ratio is None or spread <= math.log(largest_ratio):
        return z
    return {group: value * math.log(largest_ratio) / spread for group, value in z.items()}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
