"""Sums over the likely foreground or the predicted boundary of a region, by a threshold or a quantile of the pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from nnunet_al.scoring.region_sums import Evidence, Statistics, float64_array, means, sums_and_counts


def _tail(smallest: int) -> list[float]:
    """Return two numbers an octave from 2^-smallest to below 1/128."""
    return [factor * 2.0**-power for power in range(smallest, 7, -1) for factor in (1, 1.5)]


def _steps(end: float) -> list[float]:
    return [step / 128 for step in range(1, round(128 * end))]


@dataclass(frozen=True)
class _OverSet:
    """Sum or mean of the map over a set of a region's voxels, which may be empty.

    The equations of paper 2 sum, so that large targets score more; its released code takes the mean (`average`). A
    region whose set is empty has no score, NaN, and does not compete; with ``empty_is_zero`` it scores 0. With
    ``classes_of_interest``, p is the probability of these classes instead of all foreground.

    Statistics: (sum, number of voxels).
    """

    threshold: float
    average: bool = False
    empty_is_zero: bool = False
    classes_of_interest: bool = True
    name: ClassVar[str]
    per_class: ClassVar[bool] = False
    above: ClassVar[bool]  # whether a voxel belongs to the set if its value is above the threshold, or below it
    grid: ClassVar[list[float]]  # thresholds that a quantile is rounded to, ascending; float32 holds them exactly
    says: ClassVar[str]

    def values(self, evidence: Evidence) -> torch.Tensor:
        """Return the number, B_xyz, that is compared with the threshold."""
        raise NotImplementedError

    def partial(self, values: torch.Tensor, mask_B_xyz: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """Return (B, 2) from a map B_xyz and a bool mask B_xyz."""
        compared_B_xyz = self.values(evidence)
        members = compared_B_xyz > self.threshold if self.above else compared_B_xyz < self.threshold
        return sums_and_counts(values.unsqueeze(1), mask_B_xyz & members)

    def finish(self, stats_N_K: Statistics, **context: Any) -> npt.NDArray[np.float64]:
        """Return the sums or means, (N,); NaN for an empty set, infinity where a voxel's value is not a number."""
        stats = float64_array(stats_N_K)
        scores = means(stats)[:, 0] if self.average else stats[:, 0]
        empty = 0.0 if self.empty_is_zero else np.nan
        return np.where(stats[:, 1] > 0, np.where(np.isnan(scores), np.inf, scores), empty)

    def line(self, stats_N_K: Statistics) -> str:
        """Return how many voxels of the regions belong to the set, in words."""
        return f"{int(float64_array(stats_N_K)[:, 1].sum())} voxels {self.says.format(self.threshold)}"

    def _probability(self, evidence: Evidence) -> torch.Tensor:
        return evidence.roi_probability_B_xyz if self.classes_of_interest else evidence.foreground_B_xyz


@dataclass(frozen=True)
class Target(_OverSet):
    """Over {v in V_r : foreground probability > T} (paper 2, eq. 1 and 3), with T the ``threshold``."""

    name: ClassVar[str] = "target"
    above: ClassVar[bool] = True
    grid: ClassVar[list[float]] = [0.0, *_tail(20), *_steps(1), *(1 - small for small in reversed(_tail(20)))]
    says: ClassVar[str] = "with a foreground probability above {:.4g}"

    def values(self, evidence: Evidence) -> torch.Tensor:
        """Return p."""
        return self._probability(evidence)


@dataclass(frozen=True)
class Boundary(_OverSet):
    """Over {v in V_r : |foreground probability - 0.5| < B} (paper 2, eq. 2 and 4).

    B, the ``threshold``, is the half width of the band around the decision boundary 0.5; the paper's text swaps the two
    symbols.
    """

    name: ClassVar[str] = "boundary"
    above: ClassVar[bool] = False
    grid: ClassVar[list[float]] = [*_tail(16), *_steps(0.5), *(0.5 - small for small in reversed(_tail(20))), 0.5]
    says: ClassVar[str] = "with a foreground probability within {:.4g} of 0.5"

    def values(self, evidence: Evidence) -> torch.Tensor:
        """Return |p - 0.5|."""
        return (self._probability(evidence) - 0.5).abs()


@dataclass(frozen=True)
class AtQuantile:
    """A target or boundary whose threshold is a quantile of the values of all voxels of all regions.

    A pass over the pool knows the quantile only at its end. So the map is summed in the intervals between the numbers
    of a grid, for each region, and the intervals inside the set are added up in ``finish``, which needs all regions at
    once. The threshold is the number of the grid next to the quantile with which the set is not smaller: a share 1 - q
    of the voxels at least lies above T, a share q within B. The grid has steps of 1/128, and two an octave close to 0
    and 1 (for B close to 0 and 0.5).

    Statistics: the sums in all intervals, then their numbers of voxels.
    """

    over: Target | Boundary
    quantile: float
    per_class: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The name in recipes."""
        return self.over.name

    def partial(self, values: torch.Tensor, mask_B_xyz: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """Return (B, 2 · number of intervals) from a map B_xyz and a bool mask B_xyz."""
        compared_B_xyz = self.over.values(evidence)
        grid = torch.tensor(self.over.grid, dtype=compared_B_xyz.dtype, device=compared_B_xyz.device)
        # on the grid itself: outside of "> T" and of "< B"
        interval_B_xyz = torch.bucketize(compared_B_xyz, grid, right=not self.over.above)
        rows = []
        for interval_xyz, values_xyz, mask_xyz in zip(interval_B_xyz, values, mask_B_xyz, strict=True):
            interval_V, values_V = interval_xyz[mask_xyz].cpu().numpy(), values_xyz[mask_xyz].cpu().double().numpy()
            count = len(self.over.grid) + 1  # numpy adds in one order, scatter_add on a GPU does not
            rows += [np.bincount(interval_V, values_V, count), np.bincount(interval_V, minlength=count)]
        return torch.from_numpy(np.stack(rows).reshape(len(values), -1))

    def finish(self, stats_N_K: Statistics, **context: Any) -> npt.NDArray[np.float64]:
        """Return the sums or means over the set, (N,), as a fixed threshold of the same value gives them."""
        return self.over.finish(self._sums_and_counts(stats_N_K))

    def line(self, stats_N_K: Statistics) -> str:
        """Return the threshold, and how many voxels of the regions belong to the set, in words."""
        voxels = int(self._sums_and_counts(stats_N_K)[:, 1].sum())
        says = self.over.says.format(self.over.grid[self._place(stats_N_K)])
        return f"{voxels} voxels {says} (quantile {self.quantile:g} of {int(_counts(stats_N_K).sum())})"

    def _place(self, stats_N_K: Statistics) -> int:
        """Return the index in the grid of the threshold."""
        voxels_up_to = _counts(stats_N_K).sum(0).cumsum()
        wanted = self.quantile * voxels_up_to[-1]
        if self.over.above:  # the last number that at most the share q does not exceed
            return max(0, int(np.searchsorted(voxels_up_to[:-1], wanted, side="right")) - 1)
        return min(int(np.searchsorted(voxels_up_to[:-1], wanted, side="left")), len(self.over.grid) - 1)

    def _sums_and_counts(self, stats_N_K: Statistics) -> npt.NDArray[np.float64]:
        counts, place = _counts(stats_N_K), self._place(stats_N_K)
        sums = float64_array(stats_N_K)[:, : counts.shape[1]]
        inside = slice(place + 1, None) if self.over.above else slice(place + 1)
        return np.stack([sums[:, inside].sum(1), counts[:, inside].sum(1)], axis=1)


def _counts(stats_N_K: Statistics) -> npt.NDArray[np.float64]:
    stats = float64_array(stats_N_K)
    return stats[:, stats.shape[1] // 2 :]


def foreground_set(
    kind: type[Target] | type[Boundary], threshold: float | str, parameters: Mapping[str, Any]
) -> Target | Boundary | AtQuantile:
    """Return the reduction over a set by a recipe's parameters; the threshold is a number, or "q" and a quantile."""
    flags = (
        parameters.get("reduce", "sum") == "mean",
        parameters.get("empty_sets", "skip") == "zero",
        parameters.get("foreground", "roi") == "roi",
    )
    if isinstance(threshold, str):
        return AtQuantile(kind(0.0, *flags), float(threshold.removeprefix("q")))
    return kind(float(threshold), *flags)
