from __future__ import annotations

import json
import os
from dataclasses import asdict

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- the name everybody knows
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero

from nnunet_al.errors import DatasetError
from nnunet_al.nnunet import verification, workers
from nnunet_al.nnunet.case_facts import CaseFacts
from nnunet_al.nnunet.raw_dataset import RawDataset
from nnunet_al.nnunet.verification import find_reader, verify_dataset

from .phantoms import compose, make_dataset, read_volume, write_volume


@pytest.fixture
def folder(tmp_path):
    return make_dataset(tmp_path / "Dataset501_Toy", "brain", n_cases=3, n_channels=2)


def verify(folder, **options):
    return verify_dataset(RawDataset.read(folder), **options)


def change(path, alter_array=None, alter_header=None):
    image = sitk.ReadImage(str(path))
    if alter_array is not None:
        array = alter_array(sitk.GetArrayFromImage(image))
        new = sitk.GetImageFromArray(array)
        if array.ndim == 3:
            new.SetSpacing(image.GetSpacing())
            new.SetOrigin(image.GetOrigin())
        image = new
    if alter_header is not None:
        alter_header(image)
    sitk.WriteImage(image, str(path), True)


def test_facts_are_what_nnunet_crops(folder):
    dataset = RawDataset.read(folder)
    facts = verify_dataset(dataset)
    assert list(facts) == list(dataset.cases)
    for case, files in dataset.cases.items():
        images = np.stack([read_volume(file) for file in files.images])
        cropped, _, box = crop_to_nonzero(images)
        assert facts[case].crop_box == tuple(tuple(interval) for interval in box)
        assert facts[case].shape_after_crop == cropped.shape[1:]
        assert facts[case].raw_shape == images.shape[1:]
        assert facts[case].relative_size_after_crop == pytest.approx(cropped.size / images.size)
        assert facts[case].spacing_mm == tuple(sitk.ReadImage(str(files.images[0])).GetSpacing()[::-1])
        assert facts[case].label_state == "complete"
        assert CaseFacts.from_json(json.loads(json.dumps(asdict(facts[case])))) == facts[case]


def test_cropping_commutes_with_transposing(folder):
    files = RawDataset.read(folder).cases["case_01"]
    images = np.stack([read_volume(file) for file in files.images])
    _, _, box = crop_to_nonzero(images)
    for order in ((2, 0, 1), (1, 0, 2)):
        _, _, transposed = crop_to_nonzero(images.transpose([0, *(axis + 1 for axis in order)]))
        assert transposed == [box[axis] for axis in order]


def corrupt(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


IMAGE, SECOND, LABEL = "imagesTr/case_01_0000.nii.gz", "imagesTr/case_01_0001.nii.gz", "labelsTr/case_01.nii.gz"


@pytest.mark.parametrize(
    "file, harm, sentence",
    [
        (IMAGE, corrupt, "cannot be read"),
        (LABEL, corrupt, "cannot be read"),
        (IMAGE, lambda path: path.write_bytes(b""), "cannot be read"),
        (
            IMAGE,
            lambda path: change(path, lambda a: np.where(a > 150, np.nan, a).astype(np.float32)),
            "NaN or infinite",
        ),
        (
            IMAGE,
            lambda path: change(path, lambda a: np.where(a > 150, np.inf, a).astype(np.float32)),
            "NaN or infinite",
        ),
        (SECOND, lambda path: change(path, lambda a: a[1:]), r"voxels, but .*case_01_0000.* has"),
        (LABEL, lambda path: change(path, lambda a: a[:, 1:]), r"voxels, but .*case_01_0000.* has"),
        (LABEL, lambda path: change(path, None, lambda i: i.SetSpacing((1, 1, 1))), "The spacing of"),
        (LABEL, lambda path: change(path, None, lambda i: i.SetOrigin((9, 9, 9))), "The origin of"),
        (SECOND, lambda path: change(path, None, lambda i: i.SetOrigin((9, 9, 9))), "The origin of"),
        (LABEL, lambda path: change(path, None, lambda i: i.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))), "direction"),
        (LABEL, lambda path: change(path, lambda a: a + 2), r"label value\(s\) 3, 4, but .*\[0, 1, 2\]"),
        (LABEL, lambda path: change(path, lambda a: a.astype(np.float32) / 2), r"label value\(s\) 0\.5"),
        (LABEL, lambda path: change(path, lambda a: np.where(a > 1, np.nan, a).astype(np.float32)), "NaN or infinite"),
    ],
)
def test_each_flaw_gets_a_sentence_that_names_the_file(folder, tmp_path, file, harm, sentence):
    harm(folder / file)
    cache = tmp_path / "facts.json"
    with pytest.raises(DatasetError, match=sentence) as error:
        verify(folder, cache_file=cache)
    assert str(folder / file) in str(error.value)
    assert "\n" not in str(error.value)
    assert not cache.exists(), "bad input leaves every file as it was"


def test_an_image_of_zeros_is_refused(folder):
    for file in (IMAGE, SECOND):
        change(folder / file, np.zeros_like)
    with pytest.raises(DatasetError, match="zero everywhere"):
        verify(folder)


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha"])
def test_truncated_files_of_other_formats(folder, ending):
    for path in [*folder.glob("imagesTr/*"), *folder.glob("labelsTr/*")]:
        sitk.WriteImage(sitk.ReadImage(str(path)), str(path).replace(".nii.gz", ending))
        path.unlink()
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, "file_ending": ending}))
    verify(folder)
    corrupt(folder / LABEL.replace(".nii.gz", ending))
    with pytest.raises(DatasetError, match=rf"case_01\{ending} cannot be read"):
        verify(folder)


def test_headers_that_differ_by_rounding_pass(folder):
    change(folder / LABEL, None, lambda image: image.SetOrigin([value * (1 + 1e-6) for value in image.GetOrigin()]))
    verify(folder)


def test_the_first_problem_is_told_and_the_others_counted(folder):
    for case in ("case_02", "case_01"):
        corrupt(folder / "labelsTr" / f"{case}.nii.gz")
    with pytest.raises(DatasetError, match=r"case_01\.nii\.gz cannot .*\(1 other case has problems too\.\)"):
        verify(folder)


def test_a_broken_first_image_leaves_nobody_a_reader(folder, capfd):
    (folder / "imagesTr" / "case_00_0000.nii.gz").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"case_00_0000\.nii\.gz cannot be read by any"):
        verify(folder)
    assert "Traceback" not in capfd.readouterr().err


def test_the_reader_may_be_declared(folder):
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, "overwrite_image_reader_writer": "NibabelIO"}))
    assert find_reader(RawDataset.read(folder)) == "NibabelIO"
    by_nibabel = verify(folder)
    (folder / "dataset.json").write_text(json.dumps(content))
    by_sitk = verify(folder)
    for case, facts in by_sitk.items():
        assert by_nibabel[case].crop_box == facts.crop_box
        assert by_nibabel[case].label_hash == facts.label_hash
    change(folder / LABEL, None, lambda image: image.SetOrigin((9, 9, 9)))
    (folder / "dataset.json").write_text(json.dumps({**content, "overwrite_image_reader_writer": "NibabelIO"}))
    with pytest.raises(DatasetError, match="The affine of"):
        verify(folder)


def test_label_states(folder):
    content = json.loads((folder / "dataset.json").read_text())
    content["labels"]["ignore"] = 3
    (folder / "dataset.json").write_text(json.dumps(content))
    names = {
        case: (folder / "labelsTr" / f"{case}.nii.gz", folder / "imagesTr" / f"{case}_0000.nii.gz")
        for case in ("case_00", "case_01")
    }
    compose(*names["case_00"], [((0, 8), (0, 18), (0, 11))], 3, names["case_00"][0])
    compose(*names["case_01"], [], 3, names["case_01"][0])
    (folder / "labelsTr" / "case_02.nii.gz").unlink()
    facts = verify(folder)
    assert [facts[case].label_state for case in sorted(facts)] == ["partial", "unannotated", "none"]
    assert facts["case_02"].label_hash is None


def test_an_unchanged_file_is_not_read_again(folder, tmp_path, monkeypatch):
    cache = tmp_path / "al_images" / "facts.json"
    first = verify(folder, cache_file=cache)
    read = []
    real = verification.verify_case
    monkeypatch.setattr(verification, "verify_case", lambda case, *rest: read.append(case) or real(case, *rest))
    assert verify(folder, cache_file=cache) == first
    assert read == []

    label = folder / LABEL
    change(label, lambda a: np.minimum(a, 1))
    second = verify(folder, cache_file=cache)
    assert read == ["case_01"]
    assert second["case_01"].label_hash != first["case_01"].label_hash
    assert second["case_01"].image_hashes == first["case_01"].image_hashes

    os.utime(folder / IMAGE)
    assert verify(folder, cache_file=cache) == second
    assert read == ["case_01"] * 2

    content = json.loads((folder / "dataset.json").read_text())
    content["labels"] = {"background": 0, "organ": 1}
    (folder / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="label value"):  # other rules: every label is checked again
        verify(folder, cache_file=cache)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"rules": 1, "cases": 2}'])
def test_a_broken_cache_is_no_cache(folder, tmp_path, content):
    cache = tmp_path / "facts.json"
    cache.write_text(content)
    assert verify(folder, cache_file=cache) == verify(folder)


def test_test_cases_can_be_verified_apart(folder):
    image, label = read_volume(folder / IMAGE), read_volume(folder / LABEL)
    write_volume(folder / "imagesTs" / "t_0000.nii.gz", image, (1, 1, 3))
    write_volume(folder / "imagesTs" / "t_0001.nii.gz", image, (1, 1, 3))
    write_volume(folder / "labelsTs" / "t.nii.gz", label, (1, 1, 3))
    dataset = RawDataset.read(folder)
    assert list(verify_dataset(dataset, cases=dataset.test_cases)) == ["t"]


@pytest.mark.slow
def test_processes_find_the_same(folder, monkeypatch):
    monkeypatch.setattr(workers, "MAX_VOXELS_IN_PROCESS", 0)
    assert verify(folder, workers=2) == verify(folder)
    corrupt(folder / LABEL)
    with pytest.raises(DatasetError, match="cannot be read"):
        verify(folder, workers=2)
