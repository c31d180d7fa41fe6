"""Regions without any image are nobody's business."""

import numpy as np
import pytest
import SimpleITK

from nnunet_al.nnunet.nonzero import nonzero_mask, regions_in_image
from nnunet_al.nnunet.raw_dataset import CaseFiles
from nnunet_al.pool.boxes import Region


@pytest.fixture
def two_channels(tmp_path):
    first_xyz, second_xyz = np.zeros((2, 4, 6, 5), np.float32)
    first_xyz[1, 1:4, 1:4] = 1
    first_xyz[1, 2, 2] = 0
    second_xyz[2, 0, 0] = -3
    paths = tuple(tmp_path / f"case_{channel:04d}.nii.gz" for channel in range(2))
    for path, channel_xyz in zip(paths, (first_xyz, second_xyz), strict=True):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(channel_xyz), str(path))
    return CaseFiles(paths, None)


def test_the_mask_joins_the_channels(two_channels):
    expected_xyz = np.zeros((4, 6, 5), bool)
    expected_xyz[1, 1:4, 1:4] = True
    expected_xyz[2, 0, 0] = True
    # a hole is filled where the image closes around it in three dimensions; this one is open above and below
    expected_xyz[1, 2, 2] = False
    assert np.array_equal(nonzero_mask(two_channels, "SimpleITKIO"), expected_xyz)


def test_only_regions_that_hold_some_image_stay(two_channels):
    boxes = [((0, 1), (0, 6), (0, 5)), ((1, 2), (0, 6), (0, 5)), ((2, 3), (0, 1), (0, 1)), ((2, 3), (1, 6), (0, 5))]
    regions = [Region("case", box) for box in boxes]
    assert regions_in_image(regions, two_channels, "SimpleITKIO") == regions[1:3]
    assert regions_in_image([], two_channels, "SimpleITKIO") == []
