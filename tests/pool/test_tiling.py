from __future__ import annotations

import numpy as np
import pytest

from nnunet_al.errors import CampaignError
from nnunet_al.pool.boxes import Region, box_shape, contains, intersect, whole
from nnunet_al.pool.geometry import CaseGeometry
from nnunet_al.pool.tiling import longest_tile, tile_axis, tile_case

from .geometries import N_GEOMETRIES, mask_of, random_geometry

PATCHES = [(5, 7), (9, 4), (6, 5, 7), (5, 30, 4)]


def unscaled(shape, crop=None):
    crop = crop or whole(shape)
    return CaseGeometry("case", shape, (1.0, 1.0, 1.0), (0, 1, 2), crop, box_shape(crop))


@pytest.mark.parametrize("patch_size", PATCHES)
@pytest.mark.parametrize("seed", range(N_GEOMETRIES // 2))
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.8])
def test_patches_cover_the_crop_box_and_nothing_else(seed, patch_size, overlap):
    geometry = random_geometry(seed, resample_first_axis=len(patch_size) == 3)
    regions = tile_case(geometry, "patch", patch_size, overlap)
    counts = mask_of([region.box for region in regions], geometry.raw_shape)
    assert np.array_equal(counts > 0, mask_of([geometry.raw_crop_box], geometry.raw_shape) > 0)


@pytest.mark.parametrize("patch_size", PATCHES)
@pytest.mark.parametrize("seed", range(N_GEOMETRIES))
def test_one_window_holds_a_patch(seed, patch_size):
    geometry = random_geometry(seed, resample_first_axis=len(patch_size) == 3)
    window = (1,) * (3 - len(patch_size)) + patch_size
    for region in tile_case(geometry, "patch", patch_size):
        assert all(a <= b for a, b in zip(box_shape(geometry.to_network(region.box)), window, strict=True))


@pytest.mark.parametrize("unit", ["case", "slice", "patch"])
@pytest.mark.parametrize("seed", range(N_GEOMETRIES))
def test_regions_are_sorted_unique_and_seen_by_the_network(seed, unit):
    geometry = random_geometry(seed)
    regions = tile_case(geometry, unit, (5, 6, 7))
    assert regions == sorted(set(regions))
    assert all(region.case == geometry.case for region in regions)
    assert all(contains(whole(geometry.raw_shape), region.box) for region in regions)
    assert all(intersect(region.box, geometry.raw_crop_box) for region in regions)


@pytest.mark.parametrize("seed", range(12))
def test_slices_lie_across_the_first_transposed_axis(seed):
    geometry = random_geometry(seed)
    axis = geometry.transpose_forward[0]
    regions = tile_case(geometry, "slice", (5, 6))
    low, high = geometry.crop_box[0]
    assert [region.box[axis] for region in regions] == [(index, index + 1) for index in range(low, high)]
    for region in regions:
        assert all(region.box[other] == (0, geometry.raw_shape[other]) for other in range(3) if other != axis)


def test_a_case_is_the_whole_raw_volume():
    geometry = random_geometry(3)
    assert tile_case(geometry, "case", (5, 6)) == [Region(geometry.case, whole(geometry.raw_shape))]


@pytest.mark.parametrize("seed", range(12))
def test_a_2d_patch_lies_in_one_slice(seed):
    geometry = random_geometry(seed, resample_first_axis=False)
    axis = geometry.transpose_forward[0]
    assert {box_shape(region.box)[axis] for region in tile_case(geometry, "patch", (5, 6))} == {1}


def test_an_image_smaller_than_the_patch_is_one_region():
    geometry = unscaled((4, 9, 9), crop=((1, 4), (2, 8), (0, 9)))
    assert tile_case(geometry, "patch", (16, 16, 16)) == [Region("case", ((1, 4), (2, 8), (0, 9)))]


def test_patches_worked_out_by_hand():
    regions = tile_case(unscaled((1, 8, 10)), "patch", (8, 4))
    assert [region.box[2] for region in regions] == [(0, 4), (2, 6), (4, 8), (6, 10)]


@pytest.mark.parametrize("patch", [1, 2, 7, 16, 64])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_same_steps_as_nnunets_sliding_window(patch, overlap):
    pytest.importorskip("nnunetv2")
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    for length in (*range(1, 40), 110, 511):
        tiles = tile_axis(length, length, patch, overlap)
        tile = min(patch, length)
        (steps,) = compute_steps_for_sliding_window((length,), (tile,), 1 - overlap)
        assert tiles == [(start, start + tile) for start in sorted(set(steps))]


@pytest.mark.parametrize("seed", range(60))
def test_tiles_of_an_axis_are_even_and_overlap_enough(seed):
    rng = np.random.default_rng(seed)
    raw, network, patch = (int(length) for length in rng.integers(1, 200, size=3))
    overlap = float(rng.uniform(0, 0.99))
    tiles = tile_axis(raw, network, patch, overlap)
    starts = np.array([low for low, _ in tiles])
    (tile,) = {high - low for low, high in tiles}
    assert starts[0] == 0
    assert tiles[-1][1] == raw
    steps = np.diff(starts)
    if len(steps):
        assert steps.max() - steps.min() <= 1
        assert steps.max() <= max(np.ceil((1 - overlap) * tile), 1)


@pytest.mark.parametrize("seed", range(40))
def test_longest_tile_is_the_longest_by_trying_all(seed):
    rng = np.random.default_rng(seed)
    raw, network = (int(length) for length in rng.integers(1, 40, size=2))
    patch = int(rng.integers(1, 40))

    def fits(tile):
        return all(
            -(-(start + tile) * network // raw) - start * network // raw <= patch for start in range(raw - tile + 1)
        )

    fitting = [tile for tile in range(1, raw + 1) if fits(tile)]
    assert longest_tile(raw, network, patch) == max(fitting, default=1)


def test_a_voxel_larger_than_the_patch_is_a_tile_of_its_own():
    assert tile_axis(3, 30, 4, 0.5) == [(0, 1), (1, 2), (2, 3)]


def test_without_resampling_a_tile_is_the_patch():
    assert longest_tile(100, 100, 32) == 32
    assert longest_tile(20, 20, 32) == 20


def test_a_large_ct_is_tiled():
    geometry = CaseGeometry("ct", (800, 512, 512), (1.0, 0.7, 0.7), (0, 1, 2), whole((800, 512, 512)), (800, 470, 470))
    regions = tile_case(geometry, "patch", (64, 64))
    assert len({*regions}) == len(regions) > 100_000


@pytest.mark.parametrize("overlap", [-0.1, 1.0, 2, float("nan")])
def test_an_impossible_overlap_is_a_sentence(overlap):
    with pytest.raises(CampaignError, match="overlap"):
        tile_case(unscaled((4, 4, 4)), "patch", (2, 2), overlap)


def test_an_unknown_unit_and_a_patch_of_four_axes_are_sentences():
    with pytest.raises(CampaignError, match="voxel"):
        tile_case(unscaled((4, 4, 4)), "voxel", (2, 2))
    with pytest.raises(CampaignError, match="axes"):
        tile_case(unscaled((4, 4, 4)), "patch", (2, 2, 2, 2))
