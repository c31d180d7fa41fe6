"""Scores of regions of one window each, from voxel maps, and the evidence that reductions need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nnunet_al.scoring.maps import foreground_probability
from nnunet_al.scoring.reductions import Mean, Reduction
from nnunet_al.scoring.region_sums import Evidence, class_probability, predicted_voxels


def evidence_of(
    probs_T_B_C_xyz: torch.Tensor,
    exclusive: bool = True,
    channels: Sequence[int] = (),
    inside_B_xyz: torch.Tensor | None = None,
) -> Evidence:
    """Return the evidence that reductions need besides a voxel map.

    Parameters
    ----------
    probs_T_B_C_xyz : float tensor (T, B, C, xyz)
        posterior samples; T = 1 for one prediction.
    exclusive : bool
        softmax classes with background in channel 0, or sigmoid heads.
    channels : sequence of int
        output channels of the classes of interest; without any, all foreground.
    inside_B_xyz : bool tensor (B, xyz), optional
        False in padding, where no voxel counts as predicted foreground.
    """
    mean_B_C_xyz = probs_T_B_C_xyz.mean(0)
    foreground_B_xyz = foreground_probability(probs_T_B_C_xyz, exclusive)
    predicted_B_xyz = predicted_voxels(mean_B_C_xyz, exclusive)
    roi_B_xyz, probability_B_xyz = predicted_B_xyz, foreground_B_xyz
    if channels:
        roi_B_xyz = predicted_voxels(mean_B_C_xyz, exclusive, channels)
        probability_B_xyz = class_probability(mean_B_C_xyz, exclusive, channels)
    if inside_B_xyz is not None:
        predicted_B_xyz, roi_B_xyz = predicted_B_xyz & inside_B_xyz, roi_B_xyz & inside_B_xyz
        probability_B_xyz = probability_B_xyz * inside_B_xyz
    return Evidence(foreground_B_xyz, predicted_B_xyz, roi_B_xyz, probability_B_xyz)


def region_scores(
    values: torch.Tensor,
    evidence: Evidence,
    reduction: Reduction | None = None,
    mask_B_xyz: torch.Tensor | None = None,
    **context: Any,
) -> npt.NDArray[np.float64]:
    """Return the scores of B regions, one in each window, float64 (B,).

    For a region of several windows, add up the statistics of its windows (``reduction.partial``) and call
    ``reduction.finish`` on the sum.

    Parameters
    ----------
    values : float tensor (B, xyz), or (B, C, xyz) for reductions that are ``per_class``
        a voxel map.
    evidence : Evidence
        of the same windows, see `evidence_of`.
    reduction : Reduction, optional
        `Mean` if none is given.
    mask_B_xyz : bool tensor (B, xyz), optional
        the voxels of the region; by default the whole window.
    **context
        arguments of ``reduction.finish``, such as ``annotated_voxels_C`` for `ClassWeighted`.
    """
    reduction = Mean() if reduction is None else reduction
    if mask_B_xyz is None:
        mask_B_xyz = torch.ones_like(evidence.predicted_B_xyz)
    return reduction.finish(reduction.partial(values, mask_B_xyz, evidence), **context)
