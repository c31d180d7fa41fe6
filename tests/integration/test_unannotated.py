"""What nobody annotated changes nothing: neither other labels outside the batch nor the test cases' labels."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest

from nnunet_al.files import read_json
from nnunet_al.nnunet.blosc_files import open_array
from nnunet_al.rounds.stages.score import annotated_voxels

from .campaigns import DATASET, SIZES, USIMF, Lab, equal_weights, outcome, read_volume, rewrite_volume, weights

pytestmark = pytest.mark.slow


def poison(lab: Lab, raw, campaign, rounds, cases) -> int:
    """Copy the dataset with other labels in ``cases`` outside the rounds' batches; return the voxels inside them."""
    shutil.copytree(lab.roots.raw / DATASET, raw / DATASET)
    inside = 0
    for case in cases:
        path = raw / DATASET / "labelsTr" / f"{case}.nii.gz"
        truth = read_volume(path)
        asked = np.zeros(truth.shape, bool)
        for number in rounds:
            for region in read_json(campaign.round(number).batch)["regions"]:
                if region["case"] == case:
                    asked[tuple(slice(*side) for side in region["box"])] = True
        assert not asked.all()
        inside += asked.sum()
        # also where the image is zero, which nnU-Net crops away or calls background
        rewrite_volume(path, np.where(asked, truth, (truth + 1) % 3).astype(truth.dtype))
    return inside


@pytest.mark.parametrize("configuration, unit", [("2d", "patch"), ("3d_fullres", "slice")])
def test_labels_outside_the_annotated_boxes_touch_nothing(trained, lab, tmp_path, configuration, unit):
    base, source = trained(configuration, unit)
    decided = read_json(source.decisions)
    assert poison(base, tmp_path / "raw", source, (0, 1), decided["pool_cases"]) > 0
    own = lab.with_results(tmp_path / "results").with_raw(tmp_path / "raw")
    initial, budget = SIZES[unit]
    sizes = ("-unit", unit, "-initial", str(initial), "-b", str(budget), "-f", "0")
    poisoned = own.start(configuration, "usimf", *sizes, *USIMF)

    contexts = [base.context(source), own.context(poisoned)]
    views = [context.round.view for context in contexts]
    a, b = (view.preprocessed / DATASET for view in views)
    assert read_json(a / "dataset_fingerprint.json") == read_json(b / "dataset_fingerprint.json")
    assert read_json(a / "nnUNetPlans.json") == read_json(b / "nnUNetPlans.json")
    assert contexts[0].annotated_cases == contexts[1].annotated_cases
    for case in contexts[0].annotated_cases:
        composed = [read_volume(context.composed_label(case)) for context in contexts]
        np.testing.assert_array_equal(*composed)
        assert (composed[0] == contexts[0].ignore).any()
        folder = f"nnUNetPlans_{configuration}"
        for name in (f"{case}_seg.b2nd", f"{case}.b2nd"):
            np.testing.assert_array_equal(open_array(a / folder / name)[:], open_array(b / folder / name)[:])
        properties = [pickle.loads((side / folder / f"{case}.pkl").read_bytes()) for side in (a, b)]
        assert properties[0]["class_locations"].keys() == properties[1]["class_locations"].keys()
        for key, locations in properties[0]["class_locations"].items():
            np.testing.assert_array_equal(locations, properties[1]["class_locations"][key])
    np.testing.assert_array_equal(*[annotated_voxels(context) for context in contexts])
    assert equal_weights(*[weights(context.checkpoint(context.round)) for context in contexts])
    assert outcome(source) == outcome(poisoned)
    assert read_json(source.round(1).metrics)["cases"] == read_json(poisoned.round(1).metrics)["cases"]
    for case in {region["case"] for region in outcome(source)["batch"]}:
        file = f"001/{case}.nii.gz"
        np.testing.assert_array_equal(read_volume(source.ledger / file), read_volume(poisoned.ledger / file))


def test_labels_of_the_test_cases_touch_nothing_but_the_metrics(trained, lab, tmp_path):
    base, source = trained("2d", "patch")
    decided = read_json(source.decisions)
    assert poison(base, tmp_path / "raw", source, (), decided["test_cases"]) == 0
    own = lab.with_results(tmp_path / "results").with_raw(tmp_path / "raw")
    initial, budget = SIZES["patch"]
    poisoned = own.start("2d", "usimf", "-initial", str(initial), "-b", str(budget), *USIMF)
    contexts = [base.context(source), own.context(poisoned)]
    assert equal_weights(*[weights(context.checkpoint(context.round)) for context in contexts])
    assert outcome(source) == outcome(poisoned)
    assert read_json(source.round(1).metrics)["cases"] != read_json(poisoned.round(1).metrics)["cases"]
    lists = read_json(contexts[0].round.view.preprocessed / DATASET / "splits_final.json")
    assert not {*lists[0]["train"], *lists[0]["val"]} & set(decided["test_cases"])
