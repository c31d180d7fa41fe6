"""From the voxels of a region to its score.

A region may be divided into several windows, batches and processes: `partial` reduces each window to K additive
statistics, and `finish` computes the score of a region from their sums. V_r are the region's voxels, those where the
mask is True.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch

from nnunet_al.scoring.dilation import dilate
from nnunet_al.scoring.foreground_sets import Boundary, Target, foreground_set
from nnunet_al.scoring.region_sums import Evidence, Statistics, float64_array, means, sums_and_counts

_HALVINGS = 16


class Reduction(Protocol):
    """Interface of reductions. `per_class`: it takes maps B_C_xyz instead of B_xyz."""

    @property
    def name(self) -> str:
        """The name in recipes."""

    @property
    def per_class(self) -> bool:
        """Whether the map has a channel for each class."""

    def partial(self, values: torch.Tensor, mask_B_xyz: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """Return additive statistics (B, K) in float64 of the voxels where the mask is True."""

    def finish(self, stats_N_K: Statistics, **context: Any) -> npt.NDArray[np.float64]:
        """Return the scores (N,) of N regions from the sums of their statistics; unknown context is ignored.

        `ClassMeans` returns (N, C).
        """


@dataclass(frozen=True)
class Mean:
    """Mean of the map over the region's voxels V_r; a region without voxels scores 0.

    Statistics: (sum over V_r, number of voxels).
    """

    name: ClassVar[str] = "mean"
    per_class: ClassVar[bool] = False

    def partial(self, values: torch.Tensor, mask_B_xyz: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """Return (B, 2) from a map B_xyz and a bool mask B_xyz."""
        return sums_and_counts(values.unsqueeze(1), mask_B_xyz)

    def finish(self, stats_N_K: Statistics, **context: Any) -> npt.NDArray[np.float64]:
        """Return sum / number of voxels, (N,)."""
        return means(float64_array(stats_N_K))[:, 0]


@dataclass(frozen=True)
class ClassMeans:
    """Mean over V_r of each class's map; a region without voxels scores 0 in all classes.

    Statistics: (sum over V_r for each of the C classes, number of voxels).
    """

    name: ClassVar[str] = "class_means"
    per_class: ClassVar[bool] = True

    def partial(self, values: torch.Tensor, mask_B_xyz: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """Return (B, C + 1) from a map B_C_xyz and a bool mask B_xyz."""
        return sums_and_counts(values, mask_B_xyz)

    def finish(self, stats_N_K: Statistics, **context: Any) -> npt.NDArray[np.float64]:
        """Return the means (N, C)."""
        return means(float64_array(stats_N_K))


@dataclass(frozen=True)
class ClassWeighted:
    """Σ_c w_c · mean over V_r of U_c, with w_c = 1 / max(n_c, 1) normalised to Σ_c w_c = 1 (USIM, appendix A).

    n_c is the number of annotated voxels of class c so far, foreground only; a class without annotation counts as one
    voxel, so its weight is the largest and finite. Statistics: (sum over V_r for each class, number of voxels).
    """

    name: ClassVar[str] = "class_weighted"
    per_class: ClassVar[bool] = True

    def partial(self, values: torch.Tensor, mask_B_xyz: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """Return (B, C + 1) from a map B_C_xyz and a bool mask B_xyz."""
        return sums_and_counts(values, mask_B_xyz)

    def finish(
        self, stats_N_K: Statistics, *, annotated_voxels_C: npt.ArrayLike | None = None, **context: Any
    ) -> npt.NDArray[np.float64]:
        """Return the weighted scores (N,); `annotated_voxels_C` holds n_c of the map's channels."""
        assert annotated_voxels_C is not None, "class weights need the annotated voxels of each class"
        means_N_C = means(float64_array(stats_N_K))
        counts_C = np.asarray(annotated_voxels_C, dtype=np.float64)
        assert counts_C.shape == means_N_C.shape[1:], (counts_C.shape, means_N_C.shape)
        # not a matrix product, in which a row's last digit may depend on its index
        return (means_N_C * class_weights(counts_C)).sum(1)


@dataclass(frozen=True)
class Localized:
    """Mean over R, the likely classes of interest and `dilation_mm` around them, in V_r (Danaee et al. 2026, eq. 1).

    The classes of interest are those of the evidence: the left caudate in the paper, all foreground where none are
    named. A voxel is in R iff a voxel whose probability p of these classes is above `threshold` lies within
    `dilation_mm` of it, from centre to centre, by `spacing_mm` of the window's axes: a ball in 3d and, in 2d, a disc in
    the slice. Each window is dilated separately, including its voxels outside the region; predictions beyond the
    window's edge have no effect in it. ``threshold`` None: voxels predicted as one of the classes, as in the paper.

    The paper leaves open the score of a region with an empty R. The mean over V_r would rank a region whose structure
    the model misses last, since most of its voxels are certain background. Instead, p is compared with smaller and
    smaller thresholds, each half of the one before, and the mean is over the voxels above the first that any exceeds,
    which is at least half of the region's largest p; below 2^-16 of `threshold`, over V_r. A region without voxels
    scores 0.

    Statistics: (sum over R, |R|), the same above each smaller threshold, (sum over V_r, |V_r|).
    """

    dilation_mm: float
    spacing_mm: tuple[float, ...]
    threshold: float | None = None
    name: ClassVar[str] = "localized"
    per_class: ClassVar[bool] = False

    def partial(self, values: torch.Tensor, mask_B_xyz: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """Return (B, 2 · number of sets) from a map B_xyz and a bool mask B_xyz."""
        p_B_xyz = evidence.roi_probability_B_xyz
        likely_B_xyz = evidence.roi_B_xyz if self.threshold is None else p_B_xyz > self.threshold
        sets = [dilate(likely_B_xyz, self.dilation_mm, self.spacing_mm) & mask_B_xyz]
        if self.threshold is not None:
            sets += [(p_B_xyz > self.threshold / 2**step) & mask_B_xyz for step in range(1, _HALVINGS + 1)]
        values_B_1_xyz = values.unsqueeze(1)
        return torch.cat([sums_and_counts(values_B_1_xyz, voxels) for voxels in (*sets, mask_B_xyz)], dim=1)

    def finish(self, stats_N_K: Statistics, **context: Any) -> npt.NDArray[np.float64]:
        """Return the mean over the first set that is not empty in the whole region, (N,)."""
        stats = float64_array(stats_N_K)
        scores = np.zeros(len(stats))
        for column in range(stats.shape[1] - 2, -1, -2):
            scores = np.where(stats[:, column + 1] > 0, means(stats[:, column : column + 2])[:, 0], scores)
        return scores


def class_weights(annotated_voxels_C: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return w_c = 1 / max(n_c, 1), normalised to sum 1 (USIM, appendix A), from the annotated voxels n_c."""
    weights_C = 1.0 / np.maximum(np.asarray(annotated_voxels_C, dtype=np.float64), 1.0)
    return weights_C / weights_C.sum()


COUNTS_VOXELS = {ClassWeighted.name}
"""The reductions whose `finish` needs the annotated voxels of each class."""

# a factory takes the recipe's parameters and the spacing of the window's axes in mm
REDUCTIONS: dict[str, Callable[[Mapping[str, Any], Sequence[float]], Reduction]] = {
    "mean": lambda parameters, spacing_mm: Mean(),
    "class_weighted": lambda parameters, spacing_mm: ClassWeighted(),
    "class_means": lambda parameters, spacing_mm: ClassMeans(),
    "localized": lambda parameters, spacing_mm: Localized(
        float(parameters.get("dilation_mm", 3.0)),
        tuple(float(step) for step in spacing_mm),
        parameters.get("likely_above", 0.1),
    ),
    "target": lambda parameters, spacing_mm: foreground_set(
        Target, parameters.get("target_threshold", 0.2), parameters
    ),
    "boundary": lambda parameters, spacing_mm: foreground_set(
        Boundary, parameters.get("boundary_width", 0.1), parameters
    ),
}


def make_reduction(name: str, parameters: Mapping[str, Any], spacing_mm: Sequence[float]) -> Reduction:
    """Return a reduction by its name in recipes.

    Parameters
    ----------
    name
        one of `REDUCTIONS`.
    parameters
        ``dilation_mm`` (3.0) and ``likely_above`` (0.1) of localized, ``target_threshold`` (0.2), ``boundary_width``
        (0.1), numbers or words such as "q0.9", and of both ``reduce`` ("sum"), ``empty_sets`` ("skip") and
        ``foreground`` ("roi"); unknown parameters are ignored, missing ones have their defaults.
    spacing_mm
        spacing of the window's spatial axes, so two entries for 2d windows.
    """
    assert name in REDUCTIONS, name  # recipes have been checked before
    return REDUCTIONS[name](parameters, spacing_mm)
