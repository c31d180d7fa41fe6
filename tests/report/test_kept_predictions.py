"""Kept predictions of test cases, as panels and as pictures."""

from __future__ import annotations

import numpy as np
import pytest
from integration.campaigns import DATASET, Lab, read_volume

from nnunet_al.campaign.decisions import Options
from nnunet_al.cli.evaluate import main as evaluate
from nnunet_al.evaluation.dice import dice_per_class
from nnunet_al.files import read_json
from nnunet_al.report.drawing.test_case_picture import case_picture
from nnunet_al.report.evidence.kept_predictions import _spread, _surroundings, kept_case_panels
from nnunet_al.report.page.evidence_sections import test_case_sections as case_sections
from nnunet_al.report.reading.lines import comparisons
from nnunet_al.report.reading.runs import read_runs

CPU = Options(device="cpu", workers=1)
SIZES = ("-b", "4", "-initial", "6")


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Lab:
    """A strategy of two rounds with kept predictions, one without, and the reference on the whole pool with one."""
    here = Lab.of_phantoms(tmp_path_factory.mktemp("kept"), cases=5, test_cases=1)
    here.start("2d", "entropy", *SIZES, rounds=2)
    here.start("2d", "random", *SIZES, rounds=1)
    here.start("2d", "random", "--full", "-tag", "full", rounds=0)
    assert here.round("2d", "random", "-tag", "full", "-round", "1", "-keep_predictions", "1") == 0
    with here.at_work():
        for number in ("1", "2"):
            where = ("-d", "901", "-s", "entropy", "-device", "cpu", "-np", "1")
            assert evaluate([*where, "-round", number, "-keep_predictions", "1"]) == 0
    return here


@pytest.fixture(scope="module")
def found(lab):
    runs = read_runs([lab.campaign("2d", "entropy"), lab.campaign("2d", "random")])
    full = read_runs([lab.campaign("2d", "random", "full")])
    (comparison,) = comparisons(runs)
    with lab.at_work():
        return kept_case_panels(comparison, full, lab.roots, CPU)


def test_what_is_kept_is_what_was_measured(lab):
    folder = lab.campaign("2d", "entropy")
    for number in (1, 2):
        (path,) = folder.round(number).predictions.iterdir()
        case = path.name.removesuffix(".nii.gz")
        assert case == read_json(folder.decisions)["test_cases"][0]
        label = read_volume(lab.roots.raw / DATASET / "labelsTr" / path.name)
        measured = read_json(folder.round(number).metrics)["cases"][case].values()
        dices = dice_per_class(read_volume(path), label, range(1, len(measured) + 1))
        assert dices.tolist() == [metrics["dice"] for metrics in measured]


def test_label_rounds_and_reference_are_side_by_side_on_the_slice_with_most_structures(lab, found):
    (case,) = found
    assert case.columns == ("label", "round 1", "round 2", "all data")
    assert list(case.rows) == ["entropy"], "the other strategy has kept nothing"
    label_only, *models = case.rows["entropy"]
    assert label_only.prediction_yx is None
    assert all(panel is not None and panel.prediction_yx is not None for panel in models)
    name = case.title.split(", ")[1]
    label = read_volume(lab.roots.raw / DATASET / "labelsTr" / f"{name}.nii.gz")
    axis = read_json(lab.campaign("2d", "entropy").prepared.view.preprocessed / DATASET / "nnUNetPlans.json")[
        "transpose_forward"
    ][0]
    index = np.count_nonzero(np.moveaxis(label, axis, 0), axis=(1, 2)).argmax()
    assert case.title == f"{DATASET}, {name}, slice {index}"
    inside = np.take(label, index, axis)
    assert (label_only.reference_yx > 0).sum() == (inside > 0).sum(), "no structure is cut off"
    # the number above a tile is the mean over the classes in the slice
    prediction = np.take(
        read_volume(lab.campaign("2d", "entropy").round(2).predictions / f"{name}.nii.gz"), index, axis
    )
    there = [value for value in (1, 2) if ((prediction == value) | (inside == value)).any()]
    assert models[1].title == f"Dice {np.mean(dice_per_class(prediction, inside, there)):.2f}"


def test_the_section_is_there_only_with_something_to_show(lab, found, tmp_path):
    assert case_sections([], []) == []
    (section,) = case_sections(found, [])
    words = "".join(section.blocks)
    assert "all data Dice" in words
    assert "beside its label" in words
    (comparison,) = comparisons(read_runs([lab.campaign("2d", "random")]))
    assert kept_case_panels(comparison, (), lab.roots, CPU) == []


def test_places_without_a_prediction_stay_empty(found):
    (case,) = found
    row = case.rows["entropy"]
    png = case_picture({"entropy": row, "random $x$": (row[0], None, None, row[3])}, case.columns)
    assert png.startswith(b"\x89PNG")


def test_rounds_are_spread_evenly_with_both_ends():
    assert _spread([3]) == [3]
    assert _spread([1, 2, 3]) == [1, 2, 3]
    assert _spread(list(range(1, 11))) == [1, 3, 5, 8, 10]


def test_the_surroundings_hold_all_structures_and_stay_inside():
    structures = np.zeros((60, 80), bool)
    assert _surroundings(structures) == (slice(None), slice(None))
    structures[2:6, 40:60] = True
    assert _surroundings(structures) == (slice(0, 14), slice(32, 68))
