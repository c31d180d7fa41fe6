from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest

from nnunet_al.errors import CampaignError
from nnunet_al.pool.boxes import contains, intersect, whole
from nnunet_al.pool.geometry import CaseGeometry, OutsideCropError

from .geometries import N_GEOMETRIES, random_box, random_geometry

BY_HAND = CaseGeometry(
    case="by_hand",
    raw_shape=(20, 30, 8),
    raw_spacing_mm=(1.0, 1.0, 4.0),
    transpose_forward=(2, 0, 1),
    crop_box=((1, 7), (4, 16), (10, 30)),
    network_shape=(6, 18, 10),
)


def test_a_box_worked_out_by_hand():
    # raw z 5:7 -> 1:3 of 12 cropped -> 1.5:4.5 of 18; raw y 0:13 is cut to 10:13 -> 0:3 of 20 -> 0:1.5 of 10
    assert BY_HAND.to_network(((5, 7), (0, 13), (2, 3))) == ((1, 2), (1, 5), (0, 2))
    # network 1:5 of 18 -> 0.67:3.33 of 12 -> 0:4, +4
    assert BY_HAND.to_raw(((1, 2), (1, 5), (0, 2))) == ((4, 8), (10, 14), (2, 3))


@pytest.mark.parametrize("seed", range(N_GEOMETRIES))
def test_network_box_is_exactly_what_meets_the_raw_box(seed):
    geometry = random_geometry(seed)
    raw_box = random_box(np.random.default_rng(seed), geometry.raw_crop_box)
    transposed = [raw_box[axis] for axis in geometry.transpose_forward]
    network_box = geometry.to_network(raw_box)
    for axis, (low, high) in enumerate(network_box):
        corner, n, m = geometry.crop_box[axis][0], geometry.crop_shape[axis], geometry.network_shape[axis]
        meeting = [
            voxel
            for voxel in range(m)
            # the open intervals of the network voxel's support and of the raw box share a point
            if Fraction(voxel * n, m) + corner < transposed[axis][1]
            and Fraction((voxel + 1) * n, m) + corner > transposed[axis][0]
        ]
        assert list(range(low, high)) == meeting


@pytest.mark.parametrize("seed", range(N_GEOMETRIES))
def test_there_and_back_contains_what_the_network_sees(seed):
    geometry = random_geometry(seed)
    rng = np.random.default_rng(seed)
    raw_box = random_box(rng, whole(geometry.raw_shape))
    seen = intersect(raw_box, geometry.raw_crop_box)
    if seen is None:
        with pytest.raises(OutsideCropError, match=geometry.case):
            geometry.to_network(raw_box)
    else:
        back = geometry.to_raw(geometry.to_network(raw_box))
        assert contains(back, seen)
        assert contains(geometry.raw_crop_box, back)
    network_box = random_box(rng, whole(geometry.network_shape))
    assert contains(geometry.to_network(geometry.to_raw(network_box)), network_box)


@pytest.mark.parametrize("seed", range(N_GEOMETRIES))
def test_boxes_that_touch_leave_no_gap(seed):
    geometry = random_geometry(seed)
    rng = np.random.default_rng(seed)
    axis = int(rng.integers(3))
    low, high = geometry.raw_crop_box[axis]
    cut = int(rng.integers(low, high + 1))
    halves = []
    for interval in ((low, cut), (cut, high)):
        if interval[0] < interval[1]:
            box = list(geometry.raw_crop_box)
            box[axis] = interval
            halves.append(geometry.to_network(tuple(box)))
    network_axis = geometry.transpose_forward.index(axis)
    ends = [half[network_axis] for half in halves]
    assert ends[0][0] == 0
    assert ends[-1][1] == geometry.network_shape[network_axis]
    assert ends[-1][0] <= ends[0][1]


@pytest.mark.parametrize("seed", range(N_GEOMETRIES))
def test_whole_image_is_the_whole_network_image(seed):
    geometry = random_geometry(seed)
    assert geometry.to_network(whole(geometry.raw_shape)) == whole(geometry.network_shape)
    assert geometry.to_raw(whole(geometry.network_shape)) == geometry.raw_crop_box


def test_outside_the_crop_or_the_image_is_an_error_that_names_the_case():
    with pytest.raises(CampaignError, match="by_hand"):
        BY_HAND.to_network(((0, 4), (10, 30), (1, 7)))
    with pytest.raises(CampaignError, match="by_hand"):
        BY_HAND.to_raw(((6, 8), (0, 1), (0, 1)))


@pytest.mark.parametrize("seed", range(6))
def test_json_keeps_everything(seed):
    geometry = random_geometry(seed)
    assert CaseGeometry.from_json(json.loads(json.dumps(geometry.to_json()))) == geometry


def test_same_grid_as_nnunet():
    """Preprocess a ramp with nnU-Net's own transpose, crop and resampling; the values say where each voxel lies."""
    pytest.importorskip("nnunetv2")
    from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
    from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape, resample_data_or_seg_to_shape

    spacing, target = (1.0, 1.5, 3.0), (3.0, 1.25, 1.0)  # target in transposed order
    transpose = (2, 0, 1)
    raw = np.zeros((1, 18, 20, 9), dtype=np.float32)
    z, y, x = np.meshgrid(np.arange(2, 16), np.arange(3, 19), np.arange(1, 8), indexing="ij")
    position = {0: z, 1: y, 2: x}
    for raw_axis in range(3):
        raw[0, 2:16, 3:19, 1:8] = position[raw_axis] + 0.5  # the coordinate of the voxel's centre
        data, _, crop = crop_to_nonzero(raw.transpose(0, *(axis + 1 for axis in transpose)))
        spacing_transposed = [spacing[axis] for axis in transpose]
        new_shape = compute_new_shape(data.shape[1:], spacing_transposed, target)
        resampled = resample_data_or_seg_to_shape(data, new_shape, spacing_transposed, target, order=1)
        geometry = CaseGeometry(
            "ramp",
            raw.shape[1:],
            spacing,
            transpose,
            tuple(tuple(map(int, ends)) for ends in crop),
            tuple(map(int, new_shape)),
        )
        assert geometry.network_shape == resampled.shape[1:]
        network_axis = transpose.index(raw_axis)
        n, m = geometry.crop_shape[network_axis], geometry.network_shape[network_axis]
        centres = geometry.crop_box[network_axis][0] + (np.arange(m) + 0.5) * n / m
        profile = np.moveaxis(resampled[0], network_axis, 0)[:, 2, 2]
        assert np.allclose(profile[2:-2], centres[2:-2], atol=1e-3)
