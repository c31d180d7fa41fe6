from __future__ import annotations

import numpy as np
import pytest

from nnunet_al.pool.boxes import box_shape, contains, intersect, n_voxels, to_slices, whole
from nnunet_al.pool.tiling import tile_case
from nnunet_al.pool.windows import Window, cell_mask, inside_mask, read_window, windows_of

from .geometries import N_GEOMETRIES, mask_of, random_box, random_geometry

PATCHES = [(5, 7), (16, 4), (6, 5, 7), (4, 30, 3)]


def random_task(seed, patch_size):
    rng = np.random.default_rng(seed)
    shape = tuple(int(length) for length in rng.integers(1, 25, size=3))
    box = random_box(rng, whole(shape))
    return rng, shape, box, windows_of(box, patch_size, shape)


@pytest.mark.parametrize("patch_size", PATCHES)
@pytest.mark.parametrize("seed", range(N_GEOMETRIES))
def test_cells_are_the_box_each_voxel_once(seed, patch_size):
    _, shape, box, windows = random_task(seed, patch_size)
    assert np.array_equal(mask_of([window.cell for window in windows], shape), mask_of([box], shape))


@pytest.mark.parametrize("patch_size", PATCHES)
@pytest.mark.parametrize("seed", range(N_GEOMETRIES))
def test_windows_have_the_patch_size_and_hold_their_cell_and_all_the_image_they_can(seed, patch_size):
    _, shape, _, windows = random_task(seed, patch_size)
    expected = (1,) * (3 - len(patch_size)) + patch_size
    for window in windows:
        assert window.shape == expected
        assert contains(window.box, window.cell)
        inside = intersect(window.box, whole(shape))
        assert inside is not None
        assert box_shape(inside) == tuple(min(a, b) for a, b in zip(expected, shape, strict=True))


@pytest.mark.parametrize("patch_size", PATCHES)
@pytest.mark.parametrize("seed", range(20))
def test_cells_are_the_fewest_and_balanced(seed, patch_size):
    _, shape, box, windows = random_task(seed, patch_size)
    patch = (1,) * (len(shape) - len(patch_size)) + patch_size
    lengths = np.array([box_shape(window.cell) for window in windows])
    assert (lengths.max(0) - lengths.min(0)).max() <= 1
    assert len(windows) == np.prod([-(-a // b) for a, b in zip(box_shape(box), patch, strict=True)])


@pytest.mark.parametrize("patch_size", PATCHES)
@pytest.mark.parametrize("seed", range(20))
def test_reading_windows_gives_back_the_box(seed, patch_size):
    rng, shape, box, windows = random_task(seed, patch_size)
    image_C_xyz = rng.normal(size=(2, *shape)).astype(np.float32)
    rebuilt = np.full_like(image_C_xyz, np.nan)
    for window in windows:
        patch = read_window(image_C_xyz, window)
        mask = cell_mask(window)
        assert patch.shape == (2, *window.shape)
        assert patch.dtype == image_C_xyz.dtype
        assert mask.shape == window.shape
        assert mask.sum() == n_voxels(window.cell)
        rebuilt[(slice(None), *to_slices(window.cell))] = patch[:, mask].reshape(2, *box_shape(window.cell))
    index = (slice(None), *to_slices(box))
    assert np.array_equal(rebuilt[index], image_C_xyz[index])
    assert np.isfinite(rebuilt).sum() == 2 * n_voxels(box)


def test_window_is_centred_then_moved_inside():
    (middle,) = windows_of(((0, 1), (10, 14)), (1, 8), (1, 30))
    (border,) = windows_of(((0, 1), (0, 4)), (1, 8), (1, 30))
    (end,) = windows_of(((0, 1), (28, 30)), (1, 8), (1, 30))
    assert (middle.start, border.start, end.start) == ((0, 8), (0, 0), (0, 22))


def test_a_small_image_is_padded_as_nnunet_pads_it():
    pytest.importorskip("acvl_utils")
    from acvl_utils.cropping_and_padding.padding import pad_nd_image

    image = np.random.default_rng(0).normal(size=(1, 3, 6, 9)).astype(np.float32)
    (window,) = windows_of(((0, 3), (2, 4), (0, 9)), (8, 7, 9), (3, 6, 9))
    assert window.start == (-2, 0, 0)
    assert np.array_equal(read_window(image, window), pad_nd_image(image, (8, 7, 9)))


@pytest.mark.parametrize("seed", range(N_GEOMETRIES))
def test_a_patch_is_one_window_in_3d_and_a_slice_in_2d(seed):
    for patch_size in ((6, 5, 7), (5, 7)):
        geometry = random_geometry(seed, resample_first_axis=len(patch_size) == 3)
        for region in tile_case(geometry, "patch", patch_size):
            assert len(windows_of(geometry.to_network(region.box), patch_size, geometry.network_shape)) == 1


def test_only_the_window_is_read_from_disk(tmp_path):
    reads = []

    class Recorder:
        shape = (1, 100, 100)
        dtype = np.dtype(np.float32)

        def __getitem__(self, index):
            reads.append(index)
            return np.ones([1, *(part.stop - part.start for part in index[1:])], dtype=np.float32)

    patch = read_window(Recorder(), Window(start=(-2, 10), shape=(4, 5), cell=((0, 1), (10, 11))))
    assert reads == [(slice(None), slice(0, 2), slice(10, 15))]
    assert patch.sum() == 10


@pytest.mark.parametrize("patch_size", PATCHES)
@pytest.mark.parametrize("seed", range(N_GEOMETRIES))
def test_padding_is_where_reading_ones_gives_zeros(seed, patch_size):
    _, shape, _, windows = random_task(seed, patch_size)
    for window in windows:
        ones = read_window(np.ones((1, *shape), np.float32), window)[0]
        np.testing.assert_array_equal(inside_mask(window, shape), ones == 1)
