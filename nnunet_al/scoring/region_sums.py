"""Parts of the reductions: the evidence that they need, and sums over the voxels of a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, Union

import numpy as np
import numpy.typing as npt
import torch

from nnunet_al.scoring.tensors import double

Statistics: TypeAlias = Union[torch.Tensor, npt.NDArray[np.float64]]  # noqa: UP007 -- evaluated when imported


@dataclass(frozen=True)
class Evidence:
    """Predictions that a reduction may use besides the map, for whole windows and not only the region's voxels.

    Attributes
    ----------
    foreground_B_xyz : foreground probability of the mean prediction (`maps.foreground_probability`)
    predicted_B_xyz : bool, the mean prediction is foreground; False in padding
    roi_B_xyz : bool, the mean prediction is one of the classes of interest, or foreground of any class where none are
        named; False in padding
    roi_probability_B_xyz : probability of the classes of interest
    """

    foreground_B_xyz: torch.Tensor
    predicted_B_xyz: torch.Tensor
    roi_B_xyz: torch.Tensor
    roi_probability_B_xyz: torch.Tensor


def predicted_voxels(mean_B_C_xyz: torch.Tensor, exclusive: bool, channels: Sequence[int] = ()) -> torch.Tensor:
    """Return bool B_xyz: whether the mean prediction is one of the given output channels; without any, foreground.

    With exclusive classes, channel 0 is background and the most probable class is predicted; with heads, each channel
    is predicted where it is above 0.5.
    """
    if exclusive:
        classes_B_xyz = mean_B_C_xyz.argmax(1)
        wanted = torch.tensor(list(channels), device=classes_B_xyz.device)
        return torch.isin(classes_B_xyz, wanted) if channels else classes_B_xyz > 0
    heads_B_C_xyz = mean_B_C_xyz > 0.5
    return (heads_B_C_xyz[:, list(channels)] if channels else heads_B_C_xyz).any(1)


def class_probability(mean_B_C_xyz: torch.Tensor, exclusive: bool, channels: Sequence[int]) -> torch.Tensor:
    """Return B_xyz: the probability of any of these output channels; of heads, which may overlap, the largest."""
    chosen_B_K_xyz = mean_B_C_xyz[:, list(channels)]
    return chosen_B_K_xyz.sum(1) if exclusive else chosen_B_K_xyz.amax(1)


def masked_sums(values_B_C_xyz: torch.Tensor, mask_B_xyz: torch.Tensor) -> torch.Tensor:
    """Return the sums (B, C), float64, over the voxels where the mask is True."""
    # `where` and not a product: voxels outside the region must not count even if they are NaN
    values = double(values_B_C_xyz)
    mask = mask_B_xyz.to(values.device).unsqueeze(1)
    return torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device)).flatten(2).sum(2)


def sums_and_counts(values_B_C_xyz: torch.Tensor, mask_B_xyz: torch.Tensor) -> torch.Tensor:
    """Return (B, C + 1), float64: the sums over the mask, then its number of voxels."""
    counts_B_1 = double(mask_B_xyz.flatten(1)).sum(1, keepdim=True)
    return torch.cat([masked_sums(values_B_C_xyz, mask_B_xyz), counts_B_1], dim=1)


def float64_array(stats_N_K: Statistics) -> npt.NDArray[np.float64]:
    """Return statistics from any device as a numpy array."""
    return torch.as_tensor(stats_N_K).detach().cpu().numpy().astype(np.float64)


def means(sums_and_counts_N_K: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Divide the first K - 1 columns by the last, the count; 0 where the count is 0."""
    sums, counts = sums_and_counts_N_K[:, :-1], sums_and_counts_N_K[:, -1:]
    return np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
