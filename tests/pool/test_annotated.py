from __future__ import annotations

import numpy as np
import pytest

from nnunet_al.pool.annotated import fully_annotated, integral_image
from nnunet_al.pool.boxes import Region, to_slices, whole

from .geometries import mask_of, random_box

SHAPE = (6, 7, 5)


@pytest.mark.parametrize("seed", range(40))
def test_fully_annotated_agrees_with_looking_at_every_voxel(seed):
    rng = np.random.default_rng(seed)
    annotated = {
        case: mask_of([random_box(rng, whole(SHAPE)) for _ in range(rng.integers(0, 6))], SHAPE) > 0
        for case in ("a", "b")
    }
    regions = [Region(str(rng.choice(["a", "b", "c"])), random_box(rng, whole(SHAPE))) for _ in range(80)]
    expected = [
        region.case in annotated and bool(annotated[region.case][to_slices(region.box)].all()) for region in regions
    ]
    complete = fully_annotated(regions, annotated)
    assert complete.dtype == bool
    assert complete.tolist() == expected


@pytest.mark.parametrize("seed", range(20))
def test_a_region_is_full_when_nothing_in_it_is_left(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(SHAPE) < 0.9
    for _ in range(20):
        box = random_box(rng, whole(SHAPE))
        assert mask[to_slices(box)].all() == fully_annotated([Region("a", box)], {"a": mask})[0]


def test_no_annotation_and_all_annotated():
    regions = [Region("a", whole(SHAPE)), Region("a", ((0, 1), (0, 1), (0, 1)))]
    assert not fully_annotated(regions, {}).any()
    assert not fully_annotated(regions, {"a": np.zeros(SHAPE, dtype=bool)}).any()
    assert fully_annotated(regions, {"a": np.ones(SHAPE, dtype=bool)}).all()
    assert fully_annotated([], {}).shape == (0,)


def test_integral_image_counts():
    mask = np.random.default_rng(0).random((4, 3)) < 0.5
    sums = integral_image(mask)
    assert sums.shape == (5, 4)
    for i in range(5):
        for j in range(4):
            assert sums[i, j] == mask[:i, :j].sum()
