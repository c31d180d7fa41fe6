"""Dice and HD95 of one case, and their means over cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

import numpy as np

from nnunet_al.evaluation.dice import ClassLabels, dice, masks
from nnunet_al.evaluation.surface import hd95


class _Measured(TypedDict):
    dice: float
    hd95_mm: float


class Metrics(_Measured, total=False):
    """Dice coefficient (0 to 1) and 95th percentile of the Hausdorff distance (mm); ``absent`` where both are empty."""

    absent: bool


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
        ``{name: {"dice": ..., "hd95_mm": ...}}``. A class absent from both: 1 and 0 mm, and ``"absent": True``; from
        one: 0 and the image diagonal.
    """
    assert prediction_xyz.shape == reference_xyz.shape
    counted_xyz = None if ignore is None else reference_xyz != ignore
    result: dict[str, Metrics] = {}
    for name, labels in classes.items():
        pair = masks(prediction_xyz, reference_xyz, labels, counted_xyz)
        result[name] = {"dice": dice(*pair), "hd95_mm": hd95(*pair, spacing_mm)}
        if not (pair[0].any() or pair[1].any()):
            result[name]["absent"] = True
    return result


def mean_dice(case: Mapping[str, Metrics], names: Iterable[str]) -> float | None:
    """Return a case's mean Dice over the classes ``names`` that are there or predicted; None where none is.

    A class that is neither says nothing about the quality of a segmentation. Counted as Dice 1, it would make the mean
    of a group depend on how many of its cases have the structure.
    """
    values = [case[name]["dice"] for name in names if not case[name].get("absent")]
    return math.fsum(values) / len(values) if values else None


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
