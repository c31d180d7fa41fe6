from __future__ import annotations

import json

import numpy as np
import pytest

from nnunet_al.evaluation.case_metrics import evaluate_case, mean_dice, summarise
from nnunet_al.evaluation.dice import dice_per_class
from nnunet_al.evaluation.surface import hd95

CLASSES = {"whole": (1, 2), "core": 2, "absent": 3}
SPACING = (2.0, 1.0, 1.0)


@pytest.fixture
def maps() -> tuple[np.ndarray, np.ndarray]:
    prediction, reference = np.zeros((2, 8, 12, 12), dtype=np.uint8)
    reference[2:6, 3:9, 3:9] = 1
    reference[3:5, 4:7, 4:7] = 2
    prediction[2:6, 4:10, 3:9] = 1
    prediction[3:5, 5:7, 4:7] = 2
    return prediction, reference


def test_joins_dice_and_hd95(maps):
    prediction, reference = maps
    result = evaluate_case(prediction, reference, SPACING, CLASSES)
    dices = dice_per_class(prediction, reference, list(CLASSES.values()))
    assert [result[name]["dice"] for name in CLASSES] == list(dices)
    assert result["core"]["hd95_mm"] == hd95(prediction == 2, reference == 2, SPACING)
    assert result["absent"] == {"dice": 1.0, "hd95_mm": 0.0, "absent": True}
    assert "absent" not in {**result["whole"], **result["core"]}
    json.dumps(result)


def test_ignored_voxels_count_in_neither_metric(maps):
    prediction, reference = maps
    reference[:, :, 7:] = 4
    poisoned = prediction.copy()
    poisoned[:, :, 7:] = 2
    first = evaluate_case(prediction, reference, SPACING, CLASSES, ignore=4)
    assert first == evaluate_case(poisoned, reference, SPACING, CLASSES, ignore=4)
    assert first != evaluate_case(poisoned, reference, SPACING, CLASSES)


def test_summary_is_the_mean_over_cases_then_classes(maps):
    prediction, reference = maps
    cases = {
        "a": evaluate_case(prediction, reference, SPACING, CLASSES),
        "b": evaluate_case(reference, reference, SPACING, CLASSES),
        "c": evaluate_case(np.zeros_like(reference), reference, SPACING, CLASSES),
    }
    summary = summarise(cases)
    for key in ("dice", "hd95_mm"):
        means = [np.mean([case[name][key] for case in cases.values()]) for name in CLASSES]
        np.testing.assert_allclose([summary["mean"][name][key] for name in CLASSES], means)
        np.testing.assert_allclose(summary["foreground_mean"][key], np.mean(means))
    assert summary == summarise(dict(reversed(cases.items())))


def test_a_missing_structure_is_finite(maps):
    _, reference = maps
    result = evaluate_case(np.zeros_like(reference), reference, SPACING, CLASSES)
    assert result["core"]["dice"] == 0
    assert result["core"]["hd95_mm"] == np.linalg.norm([16, 12, 12])


def test_a_class_that_is_neither_there_nor_predicted_says_nothing(maps):
    prediction, reference = maps
    nothing = np.zeros_like(reference)
    case = evaluate_case(prediction, reference, SPACING, CLASSES)
    assert mean_dice(case, CLASSES) == pytest.approx((case["whole"]["dice"] + case["core"]["dice"]) / 2)
    assert mean_dice(case, ["absent"]) is None
    invented = evaluate_case(prediction, nothing, SPACING, CLASSES)
    assert mean_dice(invented, CLASSES) == 0, "predicted and not there is a mistake"
    perfect = evaluate_case(reference, reference, SPACING, CLASSES)
    assert mean_dice(perfect, ["whole"]) == 1, "right is not absent"
