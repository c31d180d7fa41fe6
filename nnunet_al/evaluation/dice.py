"""The Dice coefficient of each class on the annotated voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

# a label, or the labels of one of nnU-Net's regions
ClassLabels = int | tuple[int, ...]


def class_mask(segmentation_xyz: np.ndarray, labels: ClassLabels) -> np.ndarray:
    """Return the bool mask of a class: one label, or any of a region's labels."""
    if isinstance(labels, (tuple, list)):
        return np.isin(segmentation_xyz, labels)
    return segmentation_xyz == labels


def class_names(classes: Mapping[str, ClassLabels]) -> dict[int, str]:
    """Return the name of each label; where classes overlap, the names of all classes that hold it."""
    values = {name: (found,) if isinstance(found, int) else tuple(found) for name, found in classes.items()}
    return {
        value: " + ".join(name for name, found in values.items() if value in found)
        for value in sorted({value for found in values.values() for value in found})
    }


def dice(prediction_xyz: np.ndarray, reference_xyz: np.ndarray) -> float:
    """Return 2 |P ∩ R| / (|P| + |R|) of two bool masks of one shape; 1 where both are empty.

    nnU-Net reports NaN for two empty masks and leaves the case out of the mean; here an empty prediction for a case
    without the structure counts as correct.
    """
    assert prediction_xyz.shape == reference_xyz.shape
    size = int(np.count_nonzero(prediction_xyz)) + int(np.count_nonzero(reference_xyz))
    if size == 0:
        return 1.0
    return 2 * int(np.count_nonzero(prediction_xyz & reference_xyz)) / size


def dice_per_class(
    prediction_xyz: np.ndarray, reference_xyz: np.ndarray, classes: Sequence[ClassLabels], ignore: int | None = None
) -> np.ndarray:
    """Return the Dice coefficient of each class, float64 (C,).

    The label maps have one shape, with any number of axes; a class is a label, or a tuple of labels (nnU-Net's region).
    Voxels with the label ``ignore`` in the reference are removed from both masks; if all have it, every Dice is 1.
    """
    counted_xyz = None if ignore is None else reference_xyz != ignore
    return np.array([dice(*masks(prediction_xyz, reference_xyz, labels, counted_xyz)) for labels in classes])


def masks(
    prediction_xyz: np.ndarray, reference_xyz: np.ndarray, labels: ClassLabels, counted_xyz: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bool masks of a class in prediction and reference, within the voxels that count (None: all)."""
    pair = class_mask(prediction_xyz, labels), class_mask(reference_xyz, labels)
    return pair if counted_xyz is None else (pair[0] & counted_xyz, pair[1] & counted_xyz)
