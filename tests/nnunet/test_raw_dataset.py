from __future__ import annotations

import json

import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_al.errors import DatasetError
from nnunet_al.nnunet.raw_dataset import CaseFiles, RawDataset

LABELS = {"background": 0, "organ": 1, "lesion": 2}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "Dataset501_Toy"
    for name in ("b", "a", "with_0001_number"):
        touch(folder / "imagesTr" / f"{name}_0000.nii.gz")
        touch(folder / "labelsTr" / f"{name}.nii.gz")
    write(folder, {})
    return folder


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def write(folder, changes):
    content = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": 3, "file_ending": ".nii.gz", **changes}
    content = {key: value for key, value in content.items() if value is not None}
    (folder / "dataset.json").write_text(json.dumps(content))
    return content


def test_cases_are_nnunets_in_nnunets_order(folder):
    dataset = RawDataset.read(folder)
    theirs = get_filenames_of_train_images_and_targets(str(folder))
    assert list(dataset.cases) == [str(case) for case in theirs]
    for case, files in theirs.items():
        assert [str(file) for file in dataset.cases[case].images] == list(files["images"])
        assert str(dataset.cases[case].label) == files["label"]
    assert dataset.name == "Dataset501_Toy"
    assert dataset.channels == ("CT",)
    assert dataset.test_cases == {}


def test_a_missing_label_file_is_no_label(folder):
    (folder / "labelsTr" / "a.nii.gz").unlink()
    assert RawDataset.read(folder).cases["a"].label is None


def test_test_cases_come_from_images_ts(folder):
    touch(folder / "imagesTs" / "t_0000.nii.gz")
    touch(folder / "imagesTs" / "u_0000.nii.gz")
    touch(folder / "labelsTs" / "t.nii.gz")
    tests = RawDataset.read(folder).test_cases
    assert tests["t"].label == folder / "labelsTs" / "t.nii.gz"
    assert tests["u"].label is None


def test_listed_cases_may_lie_anywhere(folder, tmp_path, monkeypatch):
    touch(tmp_path / "pool" / "x.nii.gz")
    touch(tmp_path / "pool" / "x_label.nii.gz")
    monkeypatch.setenv("POOL", str(tmp_path / "pool"))
    listed = {
        "z": {"images": ["imagesTr/a_0000.nii.gz"], "label": "labelsTr/a.nii.gz"},
        "x": {"images": ["$POOL/x.nii.gz"], "label": "${POOL}/x_label.nii.gz"},
        "y": {"images": ["../pool/x.nii.gz"], "label": "../pool/nothing.nii.gz"},
    }
    content = write(folder, {"dataset": listed})
    dataset = RawDataset.read(folder)
    theirs = get_filenames_of_train_images_and_targets(str(folder), content)
    assert list(dataset.cases) == ["x", "y", "z"]
    for case, files in theirs.items():
        assert [str(file) for file in dataset.cases[case].images] == files["images"]
    assert dataset.cases["x"] == CaseFiles((tmp_path / "pool" / "x.nii.gz",), tmp_path / "pool" / "x_label.nii.gz")
    assert dataset.cases["y"].label is None


@pytest.mark.parametrize(
    "labels, order, classes, ignore",
    [
        (LABELS, None, {"organ": 1, "lesion": 2}, 3),
        ({**LABELS, "ignore": 3}, None, {"organ": 1, "lesion": 2}, 3),
        ({"background": 0, "whole": [1, 2], "core": [2]}, [1, 2], {"whole": (1, 2), "core": (2,)}, 3),
        ({"organ": "1", "background": "0"}, None, {"organ": 1}, 2),
    ],
)
def test_labels_are_read_as_nnunet_reads_them(folder, labels, order, classes, ignore):
    write(folder, {"labels": labels, "regions_class_order": order})
    dataset = RawDataset.read(folder)
    assert dataset.classes == classes
    assert dataset.effective_ignore == ignore
    assert dataset.ignore_label == (3 if "ignore" in labels else None)
    theirs = LabelManager(labels, order)
    assert list(dataset.label_values) == theirs.all_labels
    assert dataset.has_regions == theirs.has_regions


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"labels": None}, "has no labels"),
        ({"channel_names": None, "file_ending": None}, "no channel_names and no file_ending"),
        ({"file_ending": "nii"}, "starts with a dot"),
        ({"labels": [0, 1]}, "as objects"),
        ({"labels": {"organ": 1}}, "'background'"),
        ({"labels": {"background": 0, "a": "x"}}, "whole numbers"),
        ({"labels": {"background": 0, "a": 1, "b": 3}}, "without a gap"),
        ({"labels": {"background": 0}}, "without a gap"),
        ({"labels": {**LABELS, "ignore": 7}}, "must be 3"),
        ({"labels": {**LABELS, "ignore": [3]}}, "must be 3"),
        ({"labels": {"background": 0, "whole": [1, 2], "core": 2}}, "regions_class_order"),
        ({"channel_names": {"0": "CT", "1": "PET"}}, r"a_0001\.nii\.gz is missing"),
        ({"file_ending": ".nrrd"}, "holds no image"),
        ({"dataset": {}}, "lists no case"),
        ({"dataset": {"x": {"images": ["gone.nii.gz"], "label": ""}}}, r"gone\.nii\.gz, an image of case x"),
        ({"dataset": {"x": {"images": []}}}, "1 image"),
        ({"dataset": {"../x": {"images": ["imagesTr/a_0000.nii.gz"]}}}, "plain name"),
        ({"dataset": {"x": "imagesTr/a_0000.nii.gz"}}, "1 image"),
    ],
)
def test_what_is_wrong_in_dataset_json_is_said_in_one_sentence(folder, changes, sentence):
    write(folder, changes)
    with pytest.raises(DatasetError, match=sentence) as error:
        RawDataset.read(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_files_are_named(folder):
    (folder / "dataset.json").write_text("{not json")
    with pytest.raises(DatasetError, match=r"dataset\.json cannot be read"):
        RawDataset.read(folder)
    (folder / "dataset.json").write_text("[]")
    with pytest.raises(DatasetError, match="no JSON object"):
        RawDataset.read(folder)
    (folder / "dataset.json").unlink()
    with pytest.raises(DatasetError, match=r"dataset\.json is missing"):
        RawDataset.read(folder)


def test_files_that_do_not_fit_are_named(folder):
    touch(folder / "imagesTr" / "._a_0000.nii.gz")  # what macOS leaves behind
    touch(folder / "imagesTr" / "notes.txt")
    assert len(RawDataset.read(folder).cases) == 3
    touch(folder / "imagesTr" / "a_0001.nii.gz")
    with pytest.raises(DatasetError, match=r"a_0001\.nii\.gz is one channel too many"):
        RawDataset.read(folder)
    (folder / "imagesTr" / "a_0001.nii.gz").unlink()
    touch(folder / "imagesTr" / "c.nii.gz")
    with pytest.raises(DatasetError, match=r"c\.nii\.gz has no channel number"):
        RawDataset.read(folder)
