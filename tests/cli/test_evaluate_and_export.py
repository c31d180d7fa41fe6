"""What comes out of a campaign: its metrics again, and its annotations as a dataset."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK
from tiny_rounds import DATASET, campaign_folder, run_command, snapshot

from nnunet_al.cli import evaluate, export
from nnunet_al.files import read_json

pytestmark = pytest.mark.slow


@pytest.fixture
def one_round(roots, al_round):
    assert al_round("-s", "random", "-round", 0) == 0
    assert al_round("-s", "random", "-round", 1) == 0
    return campaign_folder(roots)


def test_evaluation_is_repeatable_and_takes_other_labels_and_checkpoints(one_round, roots, tmp_path, capsys):
    first = read_json(one_round / "round_001" / "metrics.json")
    arguments = ("-d", 501, "-device", "cpu", "-np", 1)
    assert run_command(evaluate.main, *arguments) == 0
    assert read_json(one_round / "round_001" / "metrics.json") == first

    # with the test cases' labels emptied only the copy's numbers change, and the campaign stays as it is
    labels = tmp_path / "labels"
    shutil.copytree(roots.raw / DATASET / "labelsTr", labels)
    for file in labels.iterdir():
        image = SimpleITK.ReadImage(str(file))
        SimpleITK.WriteImage(image * 0, str(file))
    before = snapshot(one_round)
    assert run_command(evaluate.main, *arguments, "-labels", labels, "-o", tmp_path / "other.json") == 0
    assert snapshot(one_round) == before
    assert read_json(tmp_path / "other.json")["cases"] != first["cases"]

    checkpoint = next(one_round.glob("round_001/nnUNet_results/*/*/fold_0/checkpoint_final.pth"))
    shutil.copy(checkpoint, tmp_path / "copy.pth")
    assert run_command(evaluate.main, *arguments, "-chk", tmp_path / "copy.pth", "-o", tmp_path / "same.json") == 0
    assert read_json(tmp_path / "same.json")["cases"] == first["cases"]
    assert "hd95 mm" in capsys.readouterr().out

    for wrong in (("-round", 0), ("-round", 7), ("-chk", tmp_path / "none.pth"), ("-labels", tmp_path / "none")):
        assert run_command(evaluate.main, *arguments, *wrong) == 2
    assert run_command(evaluate.main, *arguments, "-s", "entropy") == 2


def test_export_is_a_dataset_with_what_was_annotated_and_ignore_elsewhere(one_round, roots, capsys):
    assert run_command(export.main, "-d", 501, "-o", 601) == 0
    exported = roots.raw / "Dataset601_Phantom"
    content = json.loads((exported / "dataset.json").read_text())
    ignore = content["labels"]["ignore"]
    ledger = [read_json(file) for file in sorted((one_round / "ledger").glob("*.json"))]
    cases = {case for commit in ledger for case in commit["labels"]}
    assert content["numTraining"] == len(cases) == len(list((exported / "imagesTr").iterdir()))
    for case in cases:
        truth = _labels(roots.raw / DATASET / "labelsTr" / f"{case}.nii.gz")
        labels = _labels(exported / "labelsTr" / f"{case}.nii.gz")
        asked = np.zeros(truth.shape, bool)
        for region in (region for commit in ledger for region in commit["regions"] if region["case"] == case):
            asked[tuple(slice(*side) for side in region["box"])] = True
        assert (labels[asked] == truth[asked]).all()
        assert set(np.unique(labels[~asked])) <= {0, ignore}
        image = _labels(roots.raw / DATASET / "imagesTr" / f"{case}_0000.nii.gz")
        # background without an annotation is only where there is no image
        assert (image[~asked & (labels == 0)] == 0).all()

    before = snapshot(roots.raw)
    assert run_command(export.main, "-d", 501, "-o", 601) == 2
    assert run_command(export.main, "-d", 501, "-o", "Dataset6_x") == 2
    assert snapshot(roots.raw) == before
    assert "-o" in capsys.readouterr().err


def _labels(path):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
