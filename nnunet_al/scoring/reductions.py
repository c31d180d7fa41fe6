"""From the voxels of a region to its score.

A region may be spread over several windows, batches and processes, so a reduction never sees it whole: `partial` turns
each window into K numbers that may be added up in any grouping, and `finish` turns the sums of a region into its score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from nnunet_al.scoring.tensors import double


class Reduction(Protocol):
    """What every reduction offers.

    `per_class`: it takes maps B_C_xyz instead of B_xyz. `needs_foreground`: `partial` needs the foreground probability.
    """

    @property
    def name(self) -> str:
        """The name in recipes."""

    @property
    def per_class(self) -> bool:
        """Whether the map has a channel for each class."""

    @property
    def needs_foreground(self) -> bool:
        """Whether `partial` needs `foreground_B_xyz`."""

    def partial(
        self, values: torch.Tensor, mask_B_xyz: torch.Tensor, foreground_B_xyz: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return additive statistics (B, K) in float64 of the voxels where the mask is True."""

    def finish(self, stats_N_K: torch.Tensor | npt.NDArray[np.float64], **context: Any) -> npt.NDArray[np.float64]:
        """Return the scores (N,) of N regions from the sums of their statistics; what it does not need is ignored."""


@dataclass(frozen=True)
class Mean:
    """Mean of the map over the region's voxels V_r; a region without voxels scores 0.

    Statistics: (sum over V_r, number of voxels).
    """

    name: str = "mean"
    per_class: bool = False
    needs_foreground: bool = False

    def partial(
        self, values: torch.Tensor, mask_B_xyz: torch.Tensor, foreground_B_xyz: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return (B, 2) from a map B_xyz and a bool mask B_xyz."""
        return torch.cat([_masked_sums(values.unsqueeze(1), mask_B_xyz), _counts(mask_B_xyz)], dim=1)

    def finish(self, stats_N_K: torch.Tensor | npt.NDArray[np.float64], **context: Any) -> npt.NDArray[np.float64]:
        """Return sum / number of voxels, (N,)."""
        return _means(stats_N_K)[:, 0]


@dataclass(frozen=True)
class ClassWeighted:
    """Σ_c w_c · mean over V_r of U_c, with w_c = 1 / max(n_c, 1) normalised to Σ_c w_c = 1 (USIM, appendix A).

    n_c is the number of annotated voxels of foreground class c. A class that is not annotated yet counts as one voxel,
    so its weight is the largest and finite. A region without voxels scores 0.
    Statistics: (sum of U_c over V_r for each class, number of voxels).
    """

    name: str = "class_weighted"
    per_class: bool = True
    needs_foreground: bool = False

    def partial(
        self, values: torch.Tensor, mask_B_xyz: torch.Tensor, foreground_B_xyz: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return (B, C + 1) from a map B_C_xyz and a bool mask B_xyz."""
        return torch.cat([_masked_sums(values, mask_B_xyz), _counts(mask_B_xyz)], dim=1)

    def finish(
        self,
        stats_N_K: torch.Tensor | npt.NDArray[np.float64],
        *,
        annotated_voxels_C: npt.ArrayLike | None = None,
        **context: Any,
    ) -> npt.NDArray[np.float64]:
        """Return the weighted scores (N,); `annotated_voxels_C` holds n_c of the map's channels."""
        assert annotated_voxels_C is not None, "class weights need the annotated voxels of each class"
        means_N_C = _means(stats_N_K)
        counts_C = np.asarray(annotated_voxels_C, dtype=np.float64)
        assert counts_C.shape == means_N_C.shape[1:], (counts_C.shape, means_N_C.shape)
        return means_N_C @ class_weights(counts_C)


def class_weights(annotated_voxels_C: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return w_c = 1 / max(n_c, 1), normalised to sum 1 (USIM, appendix A), from the annotated voxels n_c."""
    weights_C = 1.0 / np.maximum(np.asarray(annotated_voxels_C, dtype=np.float64), 1.0)
    return weights_C / weights_C.sum()


def _masked_sums(values_B_C_xyz: torch.Tensor, mask_B_xyz: torch.Tensor) -> torch.Tensor:
    # `where` and not a product: what lies outside the region must not count even if it is NaN
    values = double(values_B_C_xyz)
    mask = mask_B_xyz.to(values.device).unsqueeze(1)
    return torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device)).flatten(2).sum(2)


def _counts(mask_B_xyz: torch.Tensor) -> torch.Tensor:
    return double(mask_B_xyz.flatten(1)).sum(1, keepdim=True)


def _means(stats_N_K: torch.Tensor | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Divide the first K - 1 columns by the last, the count; 0 where nothing was counted."""
    stats = torch.as_tensor(stats_N_K).detach().cpu().numpy().astype(np.float64)
    sums, counts = stats[:, :-1], stats[:, -1:]
    return np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)


REDUCTIONS: dict[str, Reduction] = {reduction.name: reduction for reduction in (Mean(), ClassWeighted())}
