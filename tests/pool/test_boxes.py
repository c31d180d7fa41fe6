from __future__ import annotations

import pickle

import numpy as np
import pytest

from nnunet_al.pool.boxes import Region, as_box, box_shape, contains, intersect, n_voxels, shift, to_slices, whole

from .geometries import mask_of, random_box

SHAPE = (5, 6, 7)


def test_region_says_where_it_is():
    assert Region("case_01", ((3, 4), (0, 40), (8, 48))).name == "case_01[3:4,0:40,8:48]"


def test_regions_sort_by_case_then_box_by_numbers():
    regions = [Region("b", ((0, 1),)), Region("a", ((10, 11),)), Region("a", ((9, 10),)), Region("a", ((9, 12),))]
    assert sorted(regions) == [regions[2], regions[3], regions[1], regions[0]]


def test_region_is_a_key_and_travels_between_processes():
    region = Region("a", ((0, 1), (2, 3)))
    assert pickle.loads(pickle.dumps(region)) == region
    assert {region: 1}[Region("a", ((0, 1), (2, 3)))] == 1


def test_boxes_survive_json_and_arrays():
    box = ((0, 1), (2, 5))
    assert as_box([[0, 1], [2, 5]]) == box
    from_array = as_box(np.array(box))
    assert from_array == box
    assert all(type(end) is int for interval in from_array for end in interval)


@pytest.mark.parametrize("seed", range(30))
def test_boxes_agree_with_masks(seed):
    rng = np.random.default_rng(seed)
    a, b = (random_box(rng, whole(SHAPE)) for _ in range(2))
    mask_a, mask_b = mask_of([a], SHAPE), mask_of([b], SHAPE)
    assert np.zeros(SHAPE)[to_slices(a)].shape == box_shape(a)
    assert n_voxels(a) == mask_a.sum()
    shared = intersect(a, b)
    assert intersect(b, a) == shared
    expected = mask_a * mask_b
    assert np.array_equal(mask_of([shared] if shared else [], SHAPE), expected)
    assert contains(a, b) == bool((expected == mask_b).all())


def test_shift_moves_there_and_back():
    box = ((0, 1), (2, 5))
    assert shift(box, (3, -1)) == ((3, 4), (1, 4))
    assert shift(shift(box, (3, -1)), (-3, 1)) == box


def test_empty_boxes_hold_nothing_and_touching_boxes_share_nothing():
    assert n_voxels(((2, 2), (0, 5))) == 0
    assert intersect(((0, 2),), ((2, 4),)) is None
