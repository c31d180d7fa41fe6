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
from nnunet_al.scoring.region_sums import Evidence, Statistics, float64_array, masked_sums, means, sums_and_counts


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
    """Mean over R, the predicted classes of interest and `dilation_mm` around them, in V_r (Danaee et al. 2026, eq. 1).

    The classes of interest are those of `Evidence.roi_B_xyz`: the left caudate in the paper, all foreground where none
    are named. A voxel is in R iff a voxel predicted as one of them lies within `dilation_mm` of it, from centre to
    centre, by `spacing_mm` of the window's axes: a ball in 3d and, in 2d, a disc in the slice. Each window is dilated
    separately, including its voxels outside the region; predictions beyond the window's edge have no effect in it. A
    region with an empty R gets the mean over V_r (the paper leaves this case open), and one without voxels scores 0.

    Statistics: (sum over R, |R|, sum over V_r, |V_r|).
    """

    dilation_mm: float
    spacing_mm: tuple[float, ...]
    name: ClassVar[str] = "localized"
    per_class: ClassVar[bool] = False

    def partial(self, values: torch.Tensor, mask_B_xyz: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """Return (B, 4) from a map B_xyz and a bool mask B_xyz."""
        near_B_xyz = dilate(evidence.roi_B_xyz, self.dilation_mm, self.spacing_mm) & mask_B_xyz
        values_B_1_xyz = values.unsqueeze(1)
        parts = [sums_and_counts(values_B_1_xyz, voxels) for voxels in (near_B_xyz, mask_B_xyz)]
        return torch.cat(parts, dim=1)

    def finish(self, stats_N_K: Statistics, **context: Any) -> npt.NDArray[np.float64]:
        """Return the mean over R or, where R is empty in the whole region, over V_r, (N,)."""
        stats = float64_array(stats_N_K)
        return np.where(stats[:, 1] > 0, means(stats[:, :2])[:, 0], means(stats[:, 2:])[:, 0])


@dataclass(frozen=True)
class Target:
    """Sum over {v in V_r : foreground probability > T} (paper 2, eq. 1 and 3); 0 where this set is empty.

    A sum, so that large targets score more. Statistics: (sum,).
    """

    threshold: float
    name: ClassVar[str] = "target"
    per_class: ClassVar[bool] = False

    def partial(self, values: torch.Tensor, mask_B_xyz: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """Return (B, 1) from a map B_xyz and a bool mask B_xyz."""
        return masked_sums(values.unsqueeze(1), mask_B_xyz & (evidence.foreground_B_xyz > self.threshold))

    def finish(self, stats_N_K: Statistics, **context: Any) -> npt.NDArray[np.float64]:
        """Return the sums, (N,)."""
        return float64_array(stats_N_K)[:, 0]


@dataclass(frozen=True)
class Boundary:
    """Sum over {v in V_r : |foreground probability - 0.5| < B} (paper 2, eq. 2 and 4); 0 where this set is empty.

    B is the half width of the band around the decision boundary 0.5; the paper's text swaps the two symbols.
    Statistics: (sum,).
    """

    width: float
    name: ClassVar[str] = "boundary"
    per_class: ClassVar[bool] = False

    def partial(self, values: torch.Tensor, mask_B_xyz: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """Return (B, 1) from a map B_xyz and a bool mask B_xyz."""
        return masked_sums(values.unsqueeze(1), mask_B_xyz & ((evidence.foreground_B_xyz - 0.5).abs() < self.width))

    def finish(self, stats_N_K: Statistics, **context: Any) -> npt.NDArray[np.float64]:
        """Return the sums, (N,)."""
        return float64_array(stats_N_K)[:, 0]


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
        float(parameters.get("dilation_mm", 3.0)), tuple(float(step) for step in spacing_mm)
    ),
    "target": lambda parameters, spacing_mm: Target(float(parameters.get("target_threshold", 0.2))),
    "boundary": lambda parameters, spacing_mm: Boundary(float(parameters.get("boundary_width", 0.1))),
}


def make_reduction(name: str, parameters: Mapping[str, Any], spacing_mm: Sequence[float]) -> Reduction:
    """Return a reduction by its name in recipes.

    Parameters
    ----------
    name
        one of `REDUCTIONS`.
    parameters
        ``dilation_mm`` (3.0, localized), ``target_threshold`` (0.2, target), ``boundary_width`` (0.1, boundary);
        unknown parameters are ignored, missing ones have their defaults.
    spacing_mm
        spacing of the window's spatial axes, so two entries for 2d windows.
    """
    assert name in REDUCTIONS, name  # recipes have been checked before
    return REDUCTIONS[name](parameters, spacing_mm)
