"""Overlap of a returned file with the handed-out labels, per class."""

from __future__ import annotations

import numpy as np

_ENOUGH_VOXELS = 20  # smaller classes are not compared
_SAME_ORGAN = 0.5  # Dice above which two segments may be the same organ
_TIMES = 2


def mean_dice(labels_kji: np.ndarray, handed_out_kji: np.ndarray) -> float:
    """Return the mean Dice = 2 |a and b| / (|a| + |b|) over the foreground classes of either; 0 without any class."""
    _, dice_V_V, sizes_V, handed_V = _dice(labels_kji, handed_out_kji)
    present_V = sizes_V + handed_V > 0
    return float(np.diagonal(dice_V_V)[present_V].mean()) if present_V.any() else 0.0


def renumbered(labels_kji: np.ndarray, handed_out_kji: np.ndarray) -> tuple[int, int] | None:
    """Return a value v at the position of another handed-out value u, as after an export that renumbers segments.

    The condition is Dice(v, handed out u) > 1/2, and more than twice both Dice(v, handed out v) and Dice(u, handed out
    u): a reader who moves a border between classes leaves a part of u in its place. Classes of fewer than 20 voxels are
    not compared. Of several pairs (v, u), the one with the largest Dice is returned; None without any.
    """
    values_V, dice_V_V, sizes_V, handed_V = _dice(labels_kji, handed_out_kji)
    own_V = np.diagonal(dice_V_V)
    suspect_V_V = (dice_V_V > _SAME_ORGAN) & (dice_V_V > _TIMES * own_V[:, None]) & (dice_V_V > _TIMES * own_V)
    suspect_V_V &= (sizes_V >= _ENOUGH_VOXELS)[:, None] & (handed_V >= _ENOUGH_VOXELS)
    if not suspect_V_V.any():
        return None
    v, u = np.unravel_index(np.where(suspect_V_V, dice_V_V, 0).argmax(), dice_V_V.shape)
    return int(values_V[v]), int(values_V[u])


def _dice(labels_kji: np.ndarray, handed_out_kji: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return all foreground values, the Dice of each with each, and the numbers of voxels in both arrays."""
    drawn_kji = (labels_kji != 0) | (handed_out_kji != 0)
    a_N, b_N = labels_kji[drawn_kji], handed_out_kji[drawn_kji]
    values = np.union1d(np.union1d(a_N, b_N), [0])  # background first, labels are never negative
    codes_N = np.searchsorted(values, a_N) * len(values) + np.searchsorted(values, b_N)
    together = np.bincount(codes_N, minlength=len(values) ** 2).reshape(len(values), len(values))
    sizes, handed = together.sum(1), together.sum(0)
    dice = 2 * together / np.maximum(sizes[:, None] + handed, 1)
    return values[1:], dice[1:, 1:], sizes[1:], handed[1:]
