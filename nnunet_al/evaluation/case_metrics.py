"""Dice and HD95 of one case, and their means over cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

import numpy as np

from nnunet_al.evaluation.dice import ClassLabels, dice, masks
from nnunet_al.evaluation.surface import hd95


class Metrics(TypedDict):
    """Dice coefficient (0 to 1) and 95th percentile of the Hausdorff distance (mm)."""

    dice: float
    hd95_mm: float


class Summary(TypedDict):
    """Means over cases for each class, and the mean of these over the classes."""

    mean: dict[str, Metrics]
    foreground_mean: Metrics


def evaluate_case(
    prediction_xyz: np.ndarray,
    reference_xyz: np.ndarray,
    spacing_mm: Sequence[float],
    classes: Mapping[str, ClassLabels],
    ignore: int | None = None,
) -> dict[str, Metrics]:
    """Return Dice and HD95 of every class of one case; every value is finite.

    Label maps have one shape; ``spacing_mm`` is the distance between voxel centres along each axis. ``classes`` maps
    names to labels, or nnU-Net's regions to tuples of labels. Voxels with the label ``ignore`` in the reference are
    removed from both masks, so masks of structures that touch them end there.

    Returns
    -------
    dict
        ``{name: {"dice": ..., "hd95_mm": ...}}``. A class absent from both: 1 and 0 mm; from one: 0 and the image
        diagonal.
    """
    assert prediction_xyz.shape == reference_xyz.shape
    counted_xyz = None if ignore is None else reference_xyz != ignore
    result: dict[str, Metrics] = {}
    for name, labels in classes.items():
        pair = masks(prediction_xyz, reference_xyz, labels, counted_xyz)
        result[name] = {"dice": dice(*pair), "hd95_mm": hd95(*pair, spacing_mm)}
    return result


def summarise(cases: Mapping[str, Mapping[str, Metrics]]) -> Summary:
    """Return the mean of each class over cases, and the mean of these means over the classes.

    There is at least one case, and all have the same classes. The result is bitwise independent of their order.
    """
    assert cases, "there is no case to summarise"
    per_case = list(cases.values())
    names = list(per_case[0])
    assert all(set(case) == set(names) for case in per_case), "the cases differ in their classes"
    mean = {name: _mean(case[name] for case in per_case) for name in names}
    return {"mean": mean, "foreground_mean": _mean(mean.values())}


def _mean(metrics: Iterable[Metrics]) -> Metrics:
    rows = list(metrics)
    return {
        "dice": math.fsum(row["dice"] for row in rows) / len(rows),
        "hd95_mm": math.fsum(row["hd95_mm"] for row in rows) / len(rows),
    }
