"""Labels that ignore voxels, as scribbles do: with --labels_are_oracle they answer, and what they ignore stays open."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- as everybody calls it
from tiny_rounds import DATASET, campaign_folder, run_command, run_round

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.cli.report import main as report
from nnunet_al.cli.round import main
from nnunet_al.files import hash_file, read_json, write_json

IGNORE = 3
OPTION = "--labels_are_oracle"


def volume(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def rewrite(path: Path, labels_xyz: np.ndarray) -> None:
    image = sitk.GetImageFromArray(labels_xyz)
    image.CopyInformation(sitk.ReadImage(str(path)))
    sitk.WriteImage(image, str(path))


@pytest.fixture
def scribbled(roots):
    """The tiny dataset, in whose labels two thirds of the voxels are ignored, and one case is as a whole."""
    folder = roots.raw / DATASET
    content = json.loads((folder / "dataset.json").read_text())
    write_json(folder / "dataset.json", {**content, "labels": {**content["labels"], "ignore": IGNORE}})
    rng = np.random.default_rng(0)
    for path in sorted((folder / "labelsTr").iterdir()):
        labels_xyz = volume(path)
        labels_xyz[rng.random(labels_xyz.shape) < (1 if "003" in path.name else 2 / 3)] = IGNORE
        rewrite(path, labels_xyz)
    return roots


def check_annotations(campaign: Path, truth: Path, ignore: int) -> int:
    """Check that all that is annotated is a label inside a region asked for; the number of its voxels."""
    inside: dict[str, np.ndarray] = {}
    for batch in campaign.glob("round_*/batch.json"):
        for region in read_json(batch)["regions"]:
            axes = inside.setdefault(region["case"], np.zeros(volume(truth / f"{region['case']}.nii.gz").shape, bool))
            axes[tuple(slice(low, high) for low, high in region["box"])] = True
    found: dict[str, np.ndarray] = {}
    for path in campaign.glob("ledger/**/*.nii.gz"):
        case = next(case for case in inside if case in str(path))
        labels_xyz = volume(path)
        new_xyz = labels_xyz != ignore
        found[case] = np.where(new_xyz, labels_xyz, found.get(case, np.full_like(labels_xyz, ignore)))
    for case, labels_xyz in found.items():
        expected_xyz = np.where(inside[case], volume(truth / f"{case}.nii.gz"), ignore)
        assert np.array_equal(labels_xyz, expected_xyz), case
    return sum(int((labels_xyz != ignore).sum()) for labels_xyz in found.values())


def trained_on(campaign: Path, ignore: int) -> int:
    """Annotated voxels in the labels that the last round was trained on."""
    paths = campaign.glob("round_001/nnUNet_raw/*/labelsTr/*.nii.gz")
    return sum(int((volume(path) != ignore).sum()) for path in paths)


@pytest.mark.parametrize("unit", ["patch", "case"])
def test_ignored_voxels_stay_unannotated(scribbled, capsys, unit):
    budget = ("-initial", "3", "-b", "2") if unit == "case" else ("-initial", "60")
    for _ in range(2):
        assert run_round(OPTION, "-unit", unit, *budget) == 0, capsys.readouterr().err
    campaign = campaign_folder(scribbled)
    decided = Decisions.load(campaign / "campaign.json")
    assert (decided.labels_are_oracle, decided.starts_from) == (True, "nothing")
    assert len(read_json(campaign / "round_000" / "batch.json")["regions"]) == int(budget[1])
    assert check_annotations(campaign, scribbled.raw / DATASET / "labelsTr", IGNORE) > 0
    # regions that were asked for, and of which the labels ignore a part, are not asked for again
    batches = [read_json(path)["regions"] for path in campaign.glob("round_*/batch.json")]
    asked = [(region["case"], str(region["box"])) for batch in batches for region in batch]
    assert len(set(asked)) == len(asked)
    assert (campaign / "round_001" / "metrics.json").is_file()


def test_a_report_looks_at_what_the_labels_say(scribbled, tmp_path):
    for _ in range(2):
        assert run_round(OPTION, "-s", "entropy", "-initial", "60") == 0
    assert (
        run_command(report, "-d", "501", "-device", "cpu", "-np", "1", "-regions", "1", "-o", tmp_path / "report") == 0
    )
    with (tmp_path / "report" / "pool_sample.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        case = row["region"].partition("[")[0]
        assert (row["misclassified"] == "") == (row["new_voxels"] == "0") == (case == "phantom_003")


def test_dice_is_of_voxels_with_a_label(scribbled):
    """Where the labels of the test cases ignore what the model gets wrong, its Dice is 1."""
    assert run_round(OPTION) == 0
    campaign = campaign_folder(scribbled)
    test = Decisions.load(campaign / "campaign.json").test_cases
    folder = scribbled.raw / DATASET / "labelsTr"
    for case in test:
        labels_xyz = volume(folder / f"{case}.nii.gz")
        labels_xyz[...] = IGNORE
        labels_xyz[0, 0, 0] = 0
        rewrite(folder / f"{case}.nii.gz", labels_xyz)
    assert run_round(OPTION) == 0
    metrics = read_json(campaign / "round_001" / "metrics.json")
    assert {d for case in metrics["cases"].values() for classes in case.values() for d in [classes["dice"]]} <= {
        0.0,
        1.0,
    }


def test_without_it_such_a_campaign_starts_from_the_labels(scribbled, capsys):
    assert run_round() == 0
    assert OPTION in capsys.readouterr().out
    assert Decisions.load(campaign_folder(scribbled) / "campaign.json").starts_from == "dataset"
    assert run_round(OPTION, "-round", "0") == 2
    assert f"{OPTION} True (started with False)" in capsys.readouterr().err


def test_a_case_without_a_label_file_is_no_oracle(scribbled, capsys):
    (scribbled.raw / DATASET / "labelsTr" / "phantom_004.nii.gz").unlink()
    assert run_round(OPTION) == 2
    assert "phantom_004" in capsys.readouterr().err
    assert run_round(OPTION, "--annotate") == 2
    assert "--annotate" in capsys.readouterr().err
    assert not any(scribbled.results.glob("*/al/*"))


def test_labels_that_ignore_nothing_answer_as_ever(roots):
    batches = []
    for option in ((), (OPTION, "-tag", "oracle")):
        assert run_round(*option) == 0
        batches.append(
            hash_file(next(roots.results.glob(f"*/al/*{'oracle' if option else 'seed0'}/*/round_000/batch.json")))
        )
    assert batches[0] == batches[1]


def test_a_first_batch_without_any_label_says_what_to_do(scribbled, capsys):
    for path in (scribbled.raw / DATASET / "labelsTr").iterdir():
        labels_xyz = np.full_like(volume(path), IGNORE)
        labels_xyz[tuple(length // 2 for length in labels_xyz.shape)] = 1
        rewrite(path, labels_xyz)
    assert run_round(OPTION, "-initial", "1") == 0
    assert "in 1 of 1 region the labels ignore everything" in capsys.readouterr().out
    assert run_round(OPTION, "-initial", "1") == 2
    assert "more of -initial" in capsys.readouterr().err


def test_the_reference_is_trained_on_all_that_is_labelled(scribbled):
    full = ("-d", "501", "-s", "random", "--full", OPTION, "-device", "cpu", "-epochs", "1", "-iterations", "1")
    for _ in range(2):
        assert run_command(main, *full, "-batch_size", "2") == 0
    campaign = campaign_folder(scribbled)
    folder = scribbled.raw / DATASET / "labelsTr"
    pool = Decisions.load(campaign / "campaign.json").pool_cases
    labelled = sum(int((volume(folder / f"{case}.nii.gz") != IGNORE).sum()) for case in pool)
    assert check_annotations(campaign, folder, IGNORE) == labelled


def test_real_scribbles(make_roots):
    data = os.environ.get("NNUNET_AL_TEST_DATA")
    source = Path(data or "nowhere") / "Dataset027_ACDCsmall"
    if not (source / "scribblesTr").is_dir():
        pytest.skip("NNUNET_AL_TEST_DATA is not set or holds no Dataset027_ACDCsmall/scribblesTr.")
    roots = make_roots()
    target = roots.raw / "Dataset027_ACDC"
    for name in ("imagesTr", "labelsTr"):
        (target / name).mkdir(parents=True)
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (source / "scribblesTr").iterdir())[:10]
    for case in cases:
        (target / "imagesTr" / f"{case}_0000.nii.gz").symlink_to(source / "imagesTr" / f"{case}_0000.nii.gz")
        (target / "labelsTr" / f"{case}.nii.gz").symlink_to(source / "scribblesTr" / f"{case}.nii.gz")
    content = json.loads((source / "dataset.json").read_text())
    labels = {**content["labels"], "ignore": 4}
    write_json(target / "dataset.json", {**content, "labels": labels, "numTraining": len(cases)})
    for _ in range(2):
        assert run_round("-d", "27", OPTION, "-unit", "slice") == 0
    (campaign,) = roots.results.glob("Dataset027_ACDC/al/*/fold_0")
    annotated = check_annotations(campaign, target / "labelsTr", 4)
    assert 0 < trained_on(campaign, 4) <= annotated
