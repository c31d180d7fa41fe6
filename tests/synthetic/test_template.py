from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnunet_al.errors import DatasetError
from nnunet_al.synthetic.template import LEFT_CAUDATE, LabelMap, image_grid, native_grid, read_template

from .tiny_head import SHAPE, SPACING, tiny_head


def written(path, head, orientation="LPS", kind=np.uint16):
    image = SimpleITK.GetImageFromArray(head.labels_zyx.astype(kind))
    image.SetSpacing(head.spacing_mm[::-1])
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(image, orientation), path)
    return path


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR", "SAL"])
def test_a_template_looks_alike_however_it_is_stored(tmp_path, orientation):
    head = LabelMap(tiny_head().labels_zyx[:30, :, :40], (2.0, 1.5, 1.0))
    read = read_template(written(tmp_path / "head.nii.gz", head, orientation))
    assert read.labels_zyx.dtype == np.int16
    assert np.array_equal(read.labels_zyx, head.labels_zyx)
    assert np.allclose(read.spacing_mm, head.spacing_mm)
    left, right = (np.argwhere(read.labels_zyx == label).mean(0) for label in (11, 50))
    assert left[2] > right[2]


def test_what_is_no_label_map_with_a_left_caudate_is_refused(tmp_path):
    head = tiny_head()
    with pytest.raises(DatasetError, match="cannot be read"):
        read_template(tmp_path / "none.nii.gz")
    (tmp_path / "text.nii.gz").write_text("no image")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_template(tmp_path / "text.nii.gz")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(head.labels_zyx[20].astype(np.uint8)), tmp_path / "flat.nii.gz")
    with pytest.raises(DatasetError, match="three axes"):
        read_template(tmp_path / "flat.nii.gz")
    vectors = np.stack([head.labels_zyx.astype(np.float32)] * 3, axis=-1)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(vectors, isVector=True), tmp_path / "vectors.nii.gz")
    with pytest.raises(DatasetError, match="three axes"):
        read_template(tmp_path / "vectors.nii.gz")
    values = LabelMap(head.labels_zyx * 0.3, head.spacing_mm)
    with pytest.raises(DatasetError, match="not labels"):
        read_template(written(tmp_path / "values.nii.gz", values, kind=np.float32))
    empty = LabelMap(np.where(head.labels_zyx == LEFT_CAUDATE, 2, head.labels_zyx), head.spacing_mm)
    with pytest.raises(DatasetError, match="no left caudate"):
        read_template(written(tmp_path / "empty.nii.gz", empty))


def test_a_file_cut_short_is_refused_though_simpleitk_reads_it(tmp_path):
    for name in ("head.nii.gz", "head.nii"):
        path = written(tmp_path / name, tiny_head())
        path.write_bytes(path.read_bytes()[: int(0.8 * path.stat().st_size)])
        SimpleITK.ReadImage(path)
        with pytest.raises(DatasetError, match="cut short"):
            read_template(path)


def test_nan_is_refused_though_simpleitk_makes_zeros_of_it(tmp_path):
    head = tiny_head()
    labels = head.labels_zyx.astype(np.float32)
    labels[0, 0, 0] = np.nan
    with pytest.raises(DatasetError, match="NaN"):
        read_template(written(tmp_path / "head.nii", LabelMap(labels, head.spacing_mm), kind=np.float32))


@pytest.mark.parametrize("spacing_mm", [0.01, 200.0])
def test_voxels_that_no_head_can_have_are_refused(tmp_path, spacing_mm):
    head = LabelMap(tiny_head().labels_zyx, (1.0, spacing_mm, 1.0))
    with pytest.raises(DatasetError, match=r"0\.1 to 10"):
        read_template(written(tmp_path / "head.nii.gz", head))


@pytest.mark.parametrize("name", ["", "folder"])
def test_a_folder_is_no_template(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DatasetError, match="not a file"):
        read_template(Path(name))


def test_position_zero_is_the_middle_between_both_caudates():
    head = tiny_head()
    axes = native_grid(head).axes()
    centres = [
        np.array([axis[index].mean() for axis, index in zip(axes, np.nonzero(head.labels_zyx == label), strict=True)])
        for label in (11, 50)
    ]
    assert np.allclose(np.mean(centres, axis=0), 0, atol=1e-3)
    assert centres[0][2] > 5

    single = LabelMap(np.where(head.labels_zyx == 50, 41, head.labels_zyx), head.spacing_mm)
    x_of_left = native_grid(single).axes()[2][np.nonzero(head.labels_zyx == 11)[2]]
    assert abs(x_of_left.mean()) < 1e-3


def test_the_grid_of_the_images():
    head = tiny_head()
    native = native_grid(head)
    assert image_grid(head, None, None) == native
    coarse = image_grid(head, None, (3.0, 3.0, 3.0))
    assert coarse.shape == (18, 22, 22)
    for coarse_axis, axis in zip(coarse.axes(), native.axes(), strict=True):
        assert coarse_axis.mean() == pytest.approx(axis.mean(), abs=1e-3)
    around = image_grid(head, (20, 30, 41), (2.0, 1.0, 1.0))
    assert around.shape == (20, 30, 41)
    assert all(abs(axis.mean()) < 1e-3 for axis in around.axes())
    assert image_grid(head, (20, 20, 20), None).spacing_mm == SPACING
    assert native.shape == SHAPE


def test_positions_are_those_of_the_axes():
    grid = image_grid(tiny_head(), (9, 10, 11), (2.0, 1.0, 0.5))
    positions = grid.positions()
    assert positions.shape == (3, 9, 10, 11)
    z, y, x = grid.axes()
    assert np.allclose(positions[:, 2, 3, 4], [z[2], y[3], x[4]])


def test_real_maps_have_their_left_caudate_on_the_left():
    data = os.environ.get("NNUNET_AL_TEST_DATA")
    path = Path(data or "") / "brain_labels" / "brain_01.nii.gz"
    if not data or not path.is_file():
        pytest.skip("NNUNET_AL_TEST_DATA is not set or holds no brain_labels/brain_01.nii.gz.")
    template = read_template(path)
    assert template.labels_zyx.shape == (76, 170, 170)
    left, right = (np.argwhere(template.labels_zyx == label).mean(0) for label in (11, 50))
    assert left[2] - right[2] > 20
    eyes, cerebellum = (np.argwhere(template.labels_zyx == label).mean(0) for label in (506, 16))
    assert eyes[1] < cerebellum[1]  # y runs to the back
