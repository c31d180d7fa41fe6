"""Dice of single slices, as studies with 2d networks report it beside that of whole volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from nnunet_al.evaluation.dice import ClassLabels, masks


class SliceDice(TypedDict):
    """Mean Dice over slices, None where there is no slice, and the number of slices."""

    slice_dice: float | None
    slices: int


def dice_of_slices(
    prediction_xyz: np.ndarray,
    reference_xyz: np.ndarray,
    axis: int,
    classes: Mapping[str, ClassLabels],
    ignore: int | None = None,
) -> dict[str, SliceDice]:
    """Return the mean Dice of each class over the slices across ``axis``.

    A slice counts for a class that is in its reference or its prediction. Slices with neither would have Dice 1, and
    their number says how much of the image was scanned, not how good the model is. Voxels with the label ``ignore`` in
    the reference are removed from both masks.
    """
    assert prediction_xyz.shape == reference_xyz.shape
    counted_xyz = None if ignore is None else reference_xyz != ignore
    within = tuple(other for other in range(reference_xyz.ndim) if other != axis)
    found: dict[str, SliceDice] = {}
    for name, labels in classes.items():
        predicted_xyz, referred_xyz = masks(prediction_xyz, reference_xyz, labels, counted_xyz)
        both_S = np.count_nonzero(predicted_xyz & referred_xyz, axis=within)
        size_S = np.count_nonzero(predicted_xyz, axis=within) + np.count_nonzero(referred_xyz, axis=within)
        dice_S = 2 * both_S[size_S > 0] / size_S[size_S > 0]
        found[name] = {"slice_dice": float(dice_S.mean()) if len(dice_S) else None, "slices": len(dice_S)}
    return found


def summarise_slices(cases: Sequence[Mapping[str, SliceDice]]) -> dict[str, SliceDice]:
    """Return the mean of each class over the slices of all cases, each slice with the same weight."""
    found: dict[str, SliceDice] = {}
    for name in cases[0]:
        known = [(case[name]["slice_dice"], case[name]["slices"]) for case in cases]
        slices = sum(count for _, count in known)
        total = math.fsum(mean * count for mean, count in known if mean is not None)
        found[name] = {"slice_dice": total / slices if slices else None, "slices": slices}
    return found
