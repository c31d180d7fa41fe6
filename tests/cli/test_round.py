"""What `nnUNetv2_al_round` does, seen from outside: exit codes, what it says, and what it asks for."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from tiny_rounds import DATASET, TINY_USIMF, campaign_folder, snapshot

from nnunet_al.files import read_json


def asked_for(roots, number: int) -> list[dict]:
    return read_json(campaign_folder(roots) / f"round_{number:03d}" / "batch.json")["regions"]


def read_label(path: Path) -> np.ndarray:
    """Voxels in the order z, y, x."""
    return np.asarray(nibabel.load(path).dataobj).astype(int).T


def change_label(path: Path, change) -> None:
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(change(np.asarray(image.dataobj).astype(np.uint8)), image.affine), path)


def test_a_round_that_is_done_stays_as_it_is(roots, al_round, capsys):
    assert al_round("-round", 0) == 0
    before = snapshot(roots.raw, roots.preprocessed, roots.results)
    capsys.readouterr()
    assert al_round("-round", 0) == 0
    assert "Round 0 of" in (said := capsys.readouterr().out)
    assert "is done already" in said
    assert snapshot(roots.raw, roots.preprocessed, roots.results) == before


def test_a_round_too_far_is_refused(al_round, capsys):
    assert al_round() == 0
    assert al_round("-round", 2) == 2
    assert "-round 2: round 1 of" in capsys.readouterr().err


def test_a_budget_larger_than_the_pool_takes_what_is_left_and_then_the_pool_is_used_up(roots, al_round, capsys):
    assert al_round("-unit", "case", "-initial", 6, "-b", 5) == 0
    assert len(asked_for(roots, 0)) == 6
    capsys.readouterr()
    assert al_round() == 0
    assert "the pool is used up after this batch: 2 regions" in capsys.readouterr().out
    asked = [region["case"] for number in (0, 1) for region in asked_for(roots, number)]
    assert len(asked) == len(set(asked)) == 8
    assert al_round() == 0  # a last model, trained on everything
    assert "nothing is left to ask for" in capsys.readouterr().out
    for _ in range(2):
        before = snapshot(roots.results)
        assert al_round() == 0
        assert "is used up: nothing is left to annotate" in capsys.readouterr().out
        assert snapshot(roots.results) == before


def test_an_initial_batch_larger_than_the_pool(roots, al_round, capsys):
    assert al_round("-unit", "case", "-initial", 60) == 0
    assert len(asked_for(roots, 0)) == 8
    assert "the pool holds 8 regions, fewer than the 60 asked for" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["patch", "slice", "case"])
def test_nothing_is_asked_for_twice_and_nothing_of_the_test_cases(roots, al_round, unit):
    for _ in range(3):
        assert al_round("-s", "bald", "-passes", 2, "-unit", unit, "-b", 2, "-initial", 2) == 0
    decided = read_json(campaign_folder(roots) / "campaign.json")
    asked = [(r["case"], str(r["box"])) for number in range(3) for r in asked_for(roots, number)]
    assert len(asked) == len(set(asked)) == 6
    assert {case for case, _ in asked} <= set(decided["pool_cases"])
    assert not set(decided["pool_cases"]) & set(decided["test_cases"])


@pytest.mark.slow
@pytest.mark.parametrize("variant", [{"regions": True}, {"channels": 2}, {"regions": True, "channels": 2}])
def test_regions_and_channels(make_roots, variant):
    from tiny_rounds import run_round

    roots = make_roots(**variant)
    for _ in range(3):
        assert run_round(*TINY_USIMF) == 0
    with (campaign_folder(roots) / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["round"] for row in rows] == ["1", "2"]
    names = ("whole", "core") if "regions" in variant else ("organ", "lesion")
    assert all(f"dice_{name}" in rows[0] for name in names)


@pytest.mark.slow
def test_cases_without_a_label_are_waited_for(roots, al_round, tmp_path, capsys):
    labels = roots.raw / DATASET / "labelsTr"
    (tmp_path / "later").mkdir()
    for number in range(6, 10):
        shutil.move(labels / f"phantom_{number:03d}.nii.gz", tmp_path / "later")
    # the campaign starts from what there is: every region of the labelled cases of the pool
    assert al_round() == 0
    folder = campaign_folder(roots)
    first = read_json(folder / "ledger" / "000.json")
    decided = read_json(folder / "campaign.json")
    assert first["source"] == "dataset"
    assert set(first["labels"]) == set(decided["pool_cases"]) - {f"phantom_{number:03d}" for number in range(6, 10)}
    assert not set(decided["test_cases"]) & {f"phantom_{number:03d}" for number in range(6, 10)}

    assert al_round() == 3
    assert "Waiting for annotations: 5 of 5 regions" in (said := capsys.readouterr().out)
    batch = asked_for(roots, 1)
    missing = sorted({region["case"] for region in batch})
    assert set(missing) <= {f"phantom_{number:03d}" for number in range(6, 10)}
    assert all(case in said for case in missing)

    before = snapshot(folder / "ledger")
    assert al_round() == 3
    assert asked_for(roots, 1) == batch
    assert snapshot(folder / "ledger") == before

    for case in missing[:-1]:
        shutil.copy2(tmp_path / "later" / f"{case}.nii.gz", labels)
    assert al_round() == 3  # not all of them are there yet
    shutil.copy2(tmp_path / "later" / f"{missing[-1]}.nii.gz", labels)
    assert al_round() == 0
    second = read_json(folder / "ledger" / "001.json")
    assert [(r["case"], r["box"]) for r in second["regions"]] == [(r["case"], r["box"]) for r in batch]
    assert al_round() in (0, 3)
    assert al_round("-round", 0) == 0


@pytest.mark.slow
def test_the_datasets_own_ignore_label_is_unannotated(roots, al_round, capsys):
    folder = roots.raw / DATASET
    content = read_json(folder / "dataset.json")
    content["labels"]["ignore"] = 3
    (folder / "dataset.json").write_text(json.dumps(content))
    whole = {path.name: path.read_bytes() for path in (folder / "labelsTr").iterdir()}

    def hide(label_xyz: np.ndarray) -> np.ndarray:
        label_xyz[..., label_xyz.shape[2] // 2 :] = 3
        return label_xyz

    for number in range(5, 10):
        change_label(folder / "labelsTr" / f"phantom_{number:03d}.nii.gz", hide)
    assert al_round("-unit", "slice") == 0
    hidden = {region["case"] for region in read_json(campaign_folder(roots) / "ledger/000.json")["regions"]}
    assert hidden
    assert al_round() == 3
    batch = asked_for(roots, 1)
    for region in batch:
        label = read_label(folder / "labelsTr" / f"{region['case']}.nii.gz")
        assert (label[tuple(slice(*side) for side in region["box"])] == 3).any(), "annotated in full already"
    for name, content in whole.items():
        (folder / "labelsTr" / name).write_bytes(content)
    assert al_round() == 0
    ledger = campaign_folder(roots) / "ledger"
    for region in batch:
        inside = tuple(slice(*side) for side in region["box"])
        truth = read_label(folder / "labelsTr" / f"{region['case']}.nii.gz")[inside]
        new = read_label(ledger / "001" / f"{region['case']}.nii.gz")[inside]
        assert np.array_equal(new[new != 3], truth[new != 3])
