"""The ledger is the truth: what is there stays, in order, and nobody can change it unseen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nnunet.phantoms import write_volume

from nnunet_al.campaign.commits import commit_to_json
from nnunet_al.campaign.ledger import CaseAnnotation, Ledger
from nnunet_al.errors import CampaignError, DatasetError
from nnunet_al.files import write_json
from nnunet_al.nnunet.label_io import LabelFormat
from nnunet_al.pool.boxes import Region

SHAPE = (4, 5, 6)
IGNORE = 3
BOX = ((0, 4), (0, 5), (0, 3))


@pytest.fixture
def label_format(tmp_path) -> LabelFormat:
    write_volume(tmp_path / "example_0000.nii.gz", np.ones(SHAPE, np.float32), (1.0, 2.0, 3.0))
    return LabelFormat({"file_ending": ".nii.gz"}, tmp_path / "example_0000.nii.gz")


@pytest.fixture
def ledger(tmp_path, label_format) -> Ledger:
    return Ledger(tmp_path / "ledger", label_format, ".nii.gz", IGNORE)


@pytest.fixture
def annotate(label_format, tmp_path):
    write_volume(tmp_path / "geometry.nii.gz", np.zeros(SHAPE, np.uint8), (1.0, 2.0, 3.0))
    properties = label_format.read_with_properties(tmp_path / "geometry.nii.gz")[1]

    def make(labels: np.ndarray) -> CaseAnnotation:
        return CaseAnnotation(labels.astype(np.int32), properties)

    return make


def random_labels(seed: int, share: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(SHAPE) < share, rng.integers(0, 3, SHAPE), IGNORE)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_empty_ledger_knows_nothing(ledger):
    assert ledger.commits() == []
    assert ledger.commit_of_round(0) is None
    assert (ledger.labels("a", SHAPE, []) == IGNORE).all()


def test_what_is_committed_is_read_back(ledger, annotate):
    labels = {"a": random_labels(0), "b": random_labels(1)}
    regions = (Region("a", BOX), Region("b", BOX))
    annotations = {case: annotate(volume) for case, volume in labels.items()}
    committed = ledger.append(0, "oracle", "somebody", regions, annotations, ("a disagreement",))
    assert ledger.commits() == [committed]
    assert ledger.commit_of_round(0) == committed
    assert (committed.source, committed.reader, committed.regions) == ("oracle", "somebody", regions)
    assert committed.disagreements == ("a disagreement",)
    for case, volume in labels.items():
        assert np.array_equal(ledger.labels(case, SHAPE, ledger.commits()), volume)
        assert committed.labels[case].annotated_voxels == (volume != IGNORE).sum()


@pytest.mark.parametrize("seed", range(3))
def test_the_first_annotation_of_a_voxel_stands(ledger, annotate, seed):
    volumes = [random_labels(10 * seed + number) for number in range(4)]
    wanted = np.full(SHAPE, IGNORE)
    for number, volume in enumerate(volumes):
        ledger.append(number, "oracle", "oracle", (), {"a": annotate(volume)})
        wanted = np.where(wanted == IGNORE, volume, wanted)
        assert np.array_equal(ledger.labels("a", SHAPE, ledger.commits()), wanted)


def test_a_commit_changes_nothing_that_was_there(ledger, annotate):
    for number in range(3):
        before = snapshot(ledger.folder) if ledger.folder.exists() else {}
        ledger.append(number, "oracle", "oracle", (), {"a": annotate(random_labels(number))})
        after = snapshot(ledger.folder)
        assert {name: after[name] for name in before} == before
        assert set(after) - set(before) == {f"{number:03d}.json", f"{number:03d}/a.nii.gz"}


def test_commits_are_in_order_beyond_a_thousand(ledger):
    ledger.append(0, "oracle", "oracle", (), {})
    (first,) = ledger.commits()
    for number in range(1, 1002):
        write_json(ledger.folder / f"{number:03d}.json", commit_to_json(replace(first, number=number, round=number)))
    assert [commit.number for commit in ledger.commits()] == list(range(1002))


def test_what_a_killed_commit_left_is_no_part_of_the_ledger(ledger, annotate):
    first = random_labels(0)
    ledger.append(0, "oracle", "oracle", (), {"a": annotate(first)})
    stray = ledger.folder / "001" / "a.nii.gz"
    stray.parent.mkdir()
    stray.write_bytes(b"half a volume")
    assert len(ledger.commits()) == 1
    second = random_labels(1)
    ledger.append(1, "oracle", "oracle", (), {"a": annotate(second)})
    composed = ledger.labels("a", SHAPE, ledger.commits())
    assert np.array_equal(composed, np.where(first == IGNORE, second, first))


@pytest.mark.parametrize("how", ["one voxel", "cut short", "missing"])
def test_a_volume_that_was_tampered_with_is_refused_and_named(ledger, annotate, how):
    labels = random_labels(0)
    ledger.append(0, "oracle", "oracle", (), {"a": annotate(labels)})
    path = ledger.folder / "000" / "a.nii.gz"
    if how == "one voxel":
        labels[0, 0, 0] = (labels[0, 0, 0] + 1) % 3
        write_volume(path, labels.astype(np.uint8), (1.0, 2.0, 3.0))
    elif how == "cut short":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.unlink()
    with pytest.raises((CampaignError, DatasetError)) as caught:
        ledger.labels("a", SHAPE, ledger.commits())
    assert str(path) in str(caught.value)


def test_a_newer_schema_is_refused(ledger):
    ledger.append(0, "oracle", "oracle", (), {})
    path = ledger.folder / "000.json"
    write_json(path, {**json.loads(path.read_text()), "schema": 99})
    with pytest.raises(CampaignError, match=r"000\.json has schema 99"):
        ledger.commits()


def test_an_entry_that_is_missing_or_broken_is_named(ledger):
    for number in range(3):
        ledger.append(number, "oracle", "oracle", (), {})
    (ledger.folder / "001.json").write_text('{"schema": 1, "numb')
    with pytest.raises(CampaignError, match=r"001\.json cannot be read"):
        ledger.commits()
    (ledger.folder / "001.json").unlink()
    with pytest.raises(CampaignError, match=r"001\.json is missing"):
        ledger.append(3, "oracle", "oracle", (), {})


def test_labels_keep_the_geometry_of_the_case(ledger, annotate, label_format):
    ledger.append(0, "oracle", "oracle", (), {"a": annotate(random_labels(0))})
    properties = ledger.properties("a", ledger.commits())
    assert tuple(properties["spacing"]) == (1.0, 2.0, 3.0)
    assert properties["sitk_stuff"]["origin"] == pytest.approx((1.0, -2.0, 3.0))
