"""Label volumes come back as they were written, or not at all."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnunet_al.errors import DatasetError, StorageError
from nnunet_al.nnunet.label_io import LabelFormat

DATASET_JSON = {"file_ending": ".nii.gz", "channel_names": {"0": "MRI"}}


@pytest.fixture
def written(tmp_path):
    labels_xyz = np.random.default_rng(0).integers(0, 4, (5, 7, 9)).astype(np.int32)
    image = SimpleITK.GetImageFromArray(labels_xyz.astype(np.uint8))
    image.SetSpacing((0.5, 1.5, 2.0))
    image.SetOrigin((3, -4, 5))
    path = tmp_path / "case.nii.gz"
    SimpleITK.WriteImage(image, str(path))
    return LabelFormat(DATASET_JSON, path), path, labels_xyz


def test_labels_and_geometry_survive_a_round_trip(written, tmp_path):
    labels, path, expected_xyz = written
    read_xyz, properties = labels.read_with_properties(path)
    assert np.array_equal(read_xyz, expected_xyz)
    labels.write(tmp_path / "copy" / "case.nii.gz", read_xyz, properties)
    again = SimpleITK.ReadImage(str(tmp_path / "copy" / "case.nii.gz"))
    assert again.GetSpacing() == (0.5, 1.5, 2.0)
    assert again.GetOrigin() == (3, -4, 5)
    assert np.array_equal(SimpleITK.GetArrayFromImage(again), expected_xyz)


def test_a_truncated_volume_is_refused_by_name(written):
    labels, path, _ = written
    labels.read(path)  # chooses nnU-Net's reader by this file
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DatasetError, match=r"case\.nii\.gz"):
        labels.read(path)


def test_values_that_are_no_integers_are_refused(written, tmp_path):
    labels, _, expected_xyz = written
    image = SimpleITK.GetImageFromArray(expected_xyz.astype(np.float32) + 0.25)
    SimpleITK.WriteImage(image, str(tmp_path / "soft.nii.gz"))
    with pytest.raises(DatasetError, match="not integers"):
        labels.read(tmp_path / "soft.nii.gz")


def test_a_write_that_does_not_read_back_leaves_the_old_file(written, monkeypatch):
    labels, path, expected_xyz = written
    _, properties = labels.read_with_properties(path)
    before = path.read_bytes()

    def cut_short(seg, output, _properties):
        type(labels._reader).write_seg(labels._reader, seg, output, _properties)
        with Path(output).open("r+b") as file:
            file.truncate(50)

    monkeypatch.setattr(labels._reader, "write_seg", cut_short)
    with pytest.raises(StorageError, match="disk full"):
        labels.write(path, 1 - expected_xyz.clip(0, 1), properties)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
