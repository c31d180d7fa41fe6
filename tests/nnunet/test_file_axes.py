"""Arrays of nnU-Net's readers on the axes of the file, and back: also of a reader that turns images."""

from __future__ import annotations

from itertools import permutations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- the name everybody knows

from nnunet_al.nnunet.file_axes import FileAxes, file_axes
from nnunet_al.nnunet.label_io import LabelFormat

READERS = ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient")
ORIENTATIONS = ("RAS", "LPS", "PIR", "SAL", "IPL")


@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 5, 6), (4, 5, 1)])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("reader", READERS)
def test_what_the_writer_writes(tmp_path, reader, orientation, shape):
    rng = np.random.default_rng(0)
    straight = nibabel.Nifti1Image(rng.random(shape[::-1], np.float32) + 1, np.diag([-1.0, -2.0, 3.0, 1.0]))
    way = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(straight.affine), nibabel.orientations.axcodes2ornt(tuple(orientation))
    )
    nibabel.save(straight.as_reoriented(way), tmp_path / "a_0000.nii.gz")
    label_format = LabelFormat(
        {"file_ending": ".nii.gz", "overwrite_image_reader_writer": reader}, tmp_path / "a_0000.nii.gz"
    )
    properties = label_format.image_properties((tmp_path / "a_0000.nii.gz",))
    read_xyz = label_format.read_image((tmp_path / "a_0000.nii.gz",))[0]
    axes = file_axes(label_format, read_xyz.shape, properties, ".nii.gz")

    labels_xyz = rng.integers(0, 4, read_xyz.shape)
    label_format.write(tmp_path / "a.nii.gz", labels_xyz, properties)
    written_kji = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii.gz")))
    np.testing.assert_array_equal(axes.to_file(labels_xyz), written_kji)
    np.testing.assert_array_equal(axes.from_file(written_kji), labels_xyz)
    # and the image itself lies there too
    image_kji = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a_0000.nii.gz")))
    np.testing.assert_allclose(axes.to_file(read_xyz), image_kji, rtol=1e-6)


@pytest.mark.parametrize("order", permutations(range(3)))
@pytest.mark.parametrize("flipped", [(False, False, False), (True, False, True), (True, True, True)])
def test_a_box_lies_where_its_voxels_lie(order, flipped):
    axes, shape = FileAxes(order, flipped), (5, 6, 7)
    box = ((1, 3), (0, 2), (4, 7))
    inside_xyz = np.zeros(shape, bool)
    inside_xyz[tuple(slice(*side) for side in box)] = True
    expected_kji = np.zeros(axes.to_file(inside_xyz).shape, bool)
    expected_kji[tuple(slice(*side) for side in axes.box_to_file(box, shape))] = True
    np.testing.assert_array_equal(axes.to_file(inside_xyz), expected_kji)
    np.testing.assert_array_equal(axes.from_file(axes.to_file(inside_xyz)), inside_xyz)
