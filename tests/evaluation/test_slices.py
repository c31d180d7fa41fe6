from __future__ import annotations

import numpy as np
import pytest

from nnunet_al.evaluation.dice import dice_per_class
from nnunet_al.evaluation.slices import dice_of_slices, summarise_slices


def test_worked_out_by_hand():
    """Slice 0: 1 of 2 voxels found (2/3). Slice 1: nothing there, nothing found. Slice 2: only predicted (0)."""
    reference = np.array([[[1, 1, 0]], [[0, 0, 0]], [[0, 0, 0]]])
    prediction = np.array([[[1, 0, 0]], [[0, 0, 0]], [[0, 1, 0]]])
    found = dice_of_slices(prediction, reference, 0, {"organ": 1, "absent": 2})
    assert found["organ"] == {"slice_dice": pytest.approx(1 / 3), "slices": 2}
    assert found["absent"] == {"slice_dice": None, "slices": 0}


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("ignore", [None, 3])
def test_as_slice_by_slice(axis, ignore):
    rng = np.random.default_rng(axis)
    prediction, reference = rng.integers(0, 3, (5, 6, 7)), rng.integers(0, 4, (5, 6, 7))
    np.moveaxis(prediction, axis, 0)[0] = 0
    np.moveaxis(reference, axis, 0)[0] = 0
    classes = {"one": 1, "whole": (1, 2)}
    found = dice_of_slices(prediction, reference, axis, classes, ignore)
    for name, labels in classes.items():
        pairs = zip(np.moveaxis(prediction, axis, 0)[1:], np.moveaxis(reference, axis, 0)[1:], strict=True)
        expected = [dice_per_class(a, b, [labels], ignore)[0] for a, b in pairs]
        assert found[name] == {"slice_dice": pytest.approx(np.mean(expected)), "slices": len(expected)}


def test_slices_of_all_cases_weigh_the_same():
    cases = [
        {"a": {"slice_dice": 0.5, "slices": 3}, "b": {"slice_dice": None, "slices": 0}},
        {"a": {"slice_dice": 0.9, "slices": 1}, "b": {"slice_dice": None, "slices": 0}},
        {"a": {"slice_dice": None, "slices": 0}, "b": {"slice_dice": None, "slices": 0}},
    ]
    found = summarise_slices(cases)
    assert found["a"] == {"slice_dice": pytest.approx(0.6), "slices": 4}
    assert found["b"] == {"slice_dice": None, "slices": 0}
