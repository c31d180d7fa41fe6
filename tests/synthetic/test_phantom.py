from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK

from nnunet_al.cli import synth
from nnunet_al.errors import DatasetError
from nnunet_al.synthetic.phantom import make_phantom_dataset

SMALL = {"shape": (20, 24, 16), "cases": 3}


def read(path):
    image = SimpleITK.ReadImage(str(path))
    return SimpleITK.GetArrayFromImage(image), image


def arrays_of(folder):
    return {str(path.relative_to(folder)): read(path)[0] for path in sorted(folder.rglob("*.nii.gz"))}


def test_a_dataset_is_what_nnunet_expects(tmp_path):
    folder = make_phantom_dataset(tmp_path / "Dataset501_A", **SMALL, channels=2, test_cases=1)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    training = [f"phantom_{index:03d}" for index in range(3)]
    assert names == sorted(
        ["dataset.json", "labelsTs/phantom_test_000.nii.gz"]
        + [f"imagesTr/{case}_{channel:04d}.nii.gz" for case in training for channel in range(2)]
        + [f"imagesTs/phantom_test_000_{channel:04d}.nii.gz" for channel in range(2)]
        + [f"labelsTr/{case}.nii.gz" for case in training]
    )
    content = json.loads((folder / "dataset.json").read_text())
    assert content["numTraining"] == 3
    assert content["file_ending"] == ".nii.gz"
    assert content["channel_names"] == {"0": "MRI", "1": "MRI T2"}
    assert content["labels"] == {"background": 0, "organ": 1, "lesion": 2}
    assert list(tmp_path.iterdir()) == [folder]


def test_images_and_labels_lie_on_one_grid_that_differs_between_cases(tmp_path):
    folder = make_phantom_dataset(tmp_path / "Dataset501_A", **SMALL, channels=2)
    grids = []
    for index in range(3):
        _, label = read(folder / "labelsTr" / f"phantom_{index:03d}.nii.gz")
        for channel in range(2):
            _, image = read(folder / "imagesTr" / f"phantom_{index:03d}_{channel:04d}.nii.gz")
            assert image.GetSize() == label.GetSize()
            assert image.GetSpacing() == label.GetSpacing()
            assert image.GetOrigin() == label.GetOrigin()
            assert image.GetDirection() == label.GetDirection()
        assert np.argmax(label.GetSpacing()) == 0  # x, which is the last axis of the array
        direction = np.reshape(label.GetDirection(), (3, 3))
        assert np.allclose(direction @ direction.T, np.eye(3), atol=1e-5)
        grids.append((label.GetSpacing(), label.GetOrigin(), label.GetDirection()))
    assert len(set(grids)) == 3


def test_same_seed_same_arrays_and_a_case_does_not_depend_on_the_others(tmp_path):
    first = arrays_of(make_phantom_dataset(tmp_path / "a", **SMALL, seed=4))
    longer = arrays_of(make_phantom_dataset(tmp_path / "b", **{**SMALL, "cases": 4}, seed=4, test_cases=1))
    other = arrays_of(make_phantom_dataset(tmp_path / "c", **SMALL, seed=5))
    assert set(first) < set(longer)
    for name, array in first.items():
        assert np.array_equal(array, longer[name])
        assert array.shape != other[name].shape or not np.array_equal(array, other[name])


def test_regions_overlap(tmp_path):
    pytest.importorskip("nnunetv2")
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    folder = make_phantom_dataset(tmp_path / "a", **{**SMALL, "cases": 1}, regions=True)
    content = json.loads((folder / "dataset.json").read_text())
    manager = LabelManager(content["labels"], content["regions_class_order"])
    assert manager.has_regions
    assert manager.foreground_regions == [(1, 2), 2]
    assert set(np.unique(arrays_of(folder)["labelsTr/phantom_000.nii.gz"])) == {0, 1, 2}


def test_an_existing_folder_is_left_alone(tmp_path):
    folder = tmp_path / "Dataset501_A"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match="Dataset501_A exists"):
        make_phantom_dataset(folder, **SMALL)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_args):
        raise RuntimeError("half way")

    monkeypatch.setattr("nnunet_al.synthetic.phantom.write_json", fail)
    with pytest.raises(RuntimeError, match="half way"):
        make_phantom_dataset(tmp_path / "Dataset501_A", **SMALL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"cases": 0}, {"test_cases": -1}, {"shape": (20, 20)}, {"spacing_mm": (1.0,)}])
def test_an_impossible_dataset_is_a_sentence_and_no_folder(tmp_path, wrong):
    with pytest.raises(DatasetError):
        make_phantom_dataset(tmp_path / "a", **{**SMALL, **wrong})
    assert not list(tmp_path.iterdir())


def test_nnunet_verifies_transposes_crops_and_resamples(tmp_path):
    """What the phantoms are for: no step of nnU-Net's preprocessing is the identity on them."""
    pytest.importorskip("nnunetv2")
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases, verify_labels
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
    from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

    folder = make_phantom_dataset(tmp_path / "Dataset501_A", **SMALL)
    spacings, cropped = [], []
    for index in range(3):
        label = str(folder / "labelsTr" / f"phantom_{index:03d}.nii.gz")
        images = [str(folder / "imagesTr" / f"phantom_{index:03d}_0000.nii.gz")]
        assert verify_labels(label, SimpleITKIO, [0, 1, 2])
        assert check_cases(images, label, 1, SimpleITKIO)
        data, properties = SimpleITKIO().read_images(images)
        data_cropped, _, _ = crop_to_nonzero(data)
        assert all(a < b for a, b in zip(data_cropped.shape[1:], data.shape[1:], strict=True))
        spacings.append(properties["spacing"])
        cropped.append(data_cropped.shape[1:])

    planner = ExperimentPlanner.__new__(ExperimentPlanner)  # its rules, without the folders that it expects
    planner.dataset_fingerprint = {"spacings": spacings, "shapes_after_crop": cropped}
    planner.overwrite_target_spacing, planner.suppress_transpose, planner.anisotropy_threshold = None, False, 3
    forward, _ = planner.determine_transpose()
    assert [int(axis) for axis in forward] == [2, 0, 1]
    target = planner.determine_fullres_target_spacing()
    resampled = [
        tuple(compute_new_shape(shape, spacing, target)) for shape, spacing in zip(cropped, spacings, strict=True)
    ]
    assert resampled != cropped


def test_command_makes_a_dataset_and_refuses_to_make_it_again(tmp_path, capsys):
    arguments = ["-d", "7", "-o", str(tmp_path), "-cases", "1", "-shape", "16", "16", "16", "-modality", "CT"]
    assert synth.main([*arguments, "--regions", "-spacing", "1", "1", "1"]) == 0
    folder = tmp_path / "Dataset007_Phantom"
    assert json.loads((folder / "dataset.json").read_text())["channel_names"] == {"0": "CT"}
    before = arrays_of(folder)
    assert synth.main([*arguments, "-name", "Another"]) == 2
    assert "Dataset007_Phantom has the number 7 already" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [folder]
    assert all(np.array_equal(array, before[name]) for name, array in arrays_of(folder).items())


def test_command_writes_to_nnunets_raw_folder_and_minds_the_other_two(tmp_path, monkeypatch, capsys):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    (tmp_path / "nnUNet_results" / "Dataset008_Other").mkdir()
    arguments = ["-cases", "1", "-shape", "16", "16", "16"]
    assert synth.main([*arguments, "-d", "8"]) == 2
    assert "Dataset008_Other" in capsys.readouterr().err
    assert synth.main([*arguments, "-d", "9"]) == 0
    assert (tmp_path / "nnUNet_raw" / "Dataset009_Phantom" / "dataset.json").is_file()
    monkeypatch.delenv("nnUNet_raw")
    assert synth.main([*arguments, "-d", "10"]) == 2
    assert "nnUNet_raw" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [["-d", "0"], ["-d", "1000"], ["-d", "7", "-name", "a__b"], ["-d", "7", "-name", "../a"]]
)
def test_command_refuses_what_nnunet_could_not_find(tmp_path, wrong):
    assert synth.main([*wrong, "-o", str(tmp_path)]) == 2
    assert not list(tmp_path.iterdir())
