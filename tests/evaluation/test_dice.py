from __future__ import annotations

import numpy as np
import pytest
import SimpleITK

from nnunet_al.evaluation.dice import class_mask, dice_per_class


def label_maps(seed: int, labels: int = 4, shape=(9, 10, 11)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, labels, size=shape), rng.integers(0, labels, size=shape)


def test_by_hand():
    prediction = np.array([[1, 1, 0], [2, 0, 0]])
    reference = np.array([[1, 0, 0], [2, 2, 0]])
    np.testing.assert_allclose(dice_per_class(prediction, reference, [1, 2, (1, 2), 3]), [2 / 3, 2 / 3, 2 / 3, 1])


def test_one_empty_is_zero_and_both_empty_is_one():
    empty, full = np.zeros((2, 2), int), np.ones((2, 2), int)
    assert dice_per_class(full, empty, [1])[0] == 0
    assert dice_per_class(empty, full, [1])[0] == 0
    assert dice_per_class(empty, empty, [1])[0] == 1


@pytest.mark.parametrize("seed", range(3))
def test_equals_simpleitk(seed):
    prediction, reference = label_maps(seed)
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(
        SimpleITK.GetImageFromArray(reference.astype(np.uint8)),
        SimpleITK.GetImageFromArray(prediction.astype(np.uint8)),
    )
    expected = [overlap.GetDiceCoefficient(label) for label in (1, 2, 3)]
    np.testing.assert_allclose(dice_per_class(prediction, reference, [1, 2, 3]), expected)


@pytest.mark.parametrize("ignore", [None, 3])
def test_equals_nnunet(ignore, tmp_path):
    metrics = pytest.importorskip("nnunetv2.evaluation.evaluate_predictions")
    reader = pytest.importorskip("nnunetv2.imageio.simpleitk_reader_writer").SimpleITKIO()
    prediction, reference = label_maps(7)
    for name, array in (("prediction", prediction), ("reference", reference)):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array.astype(np.uint8)), tmp_path / f"{name}.nii.gz")
    classes = [1, 2, (1, 2)]
    theirs = metrics.compute_metrics(
        str(tmp_path / "reference.nii.gz"), str(tmp_path / "prediction.nii.gz"), reader, classes, ignore
    )["metrics"]
    expected = [theirs[labels]["Dice"] for labels in classes]
    np.testing.assert_allclose(dice_per_class(prediction, reference, classes, ignore), expected)


def test_what_is_predicted_on_ignored_voxels_changes_nothing():
    prediction, reference = label_maps(1)
    poisoned = np.where(reference == 3, np.random.default_rng(2).integers(0, 4, size=reference.shape), prediction)
    assert (poisoned != prediction).any()
    np.testing.assert_array_equal(
        dice_per_class(prediction, reference, [1, (1, 2)], ignore=3),
        dice_per_class(poisoned, reference, [1, (1, 2)], ignore=3),
    )


def test_dice_is_symmetric():
    prediction, reference = label_maps(3)
    np.testing.assert_array_equal(
        dice_per_class(prediction, reference, [1, 2]), dice_per_class(reference, prediction, [1, 2])
    )


def test_a_region_is_the_union_of_its_labels():
    _, reference = label_maps(4)
    np.testing.assert_array_equal(class_mask(reference, (1, 3)), class_mask(reference, 1) | class_mask(reference, 3))
