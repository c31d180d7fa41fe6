from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from nnunet_al.errors import DatasetError
from nnunet_al.synthetic.brain import brain_phantom
from nnunet_al.synthetic.brain_cortex import waves
from nnunet_al.synthetic.brain_shapes import Ellipsoid, Sweep
from nnunet_al.synthetic.template import LabelMap

PAIRS = [(2, 41), (3, 42), (4, 43), (10, 49), (11, 50), (12, 51), (13, 52), (17, 53), (18, 54), (26, 58), (28, 60)]
VOLUMES_MM3 = {
    2: 186_000,
    41: 190_000,
    3: 175_000,
    42: 176_000,
    4: 15_600,
    43: 14_500,
    10: 6_750,
    49: 6_840,
    11: 3_730,
    50: 3_870,
    12: 5_260,
    51: 4_900,
    13: 1_360,
    52: 1_500,
    14: 1_440,
    16: 9_730,
    17: 3_180,
    53: 3_790,
    18: 1_630,
    54: 1_630,
    24: 221_000,
    26: 513,
    58: 497,
    28: 3_840,
    60: 3_950,
    507: 174_000,
    511: 102_000,
    515: 150_000,
}
"""Medians, within this field of view, of the 14 label maps of adults that were published with SynthSeg."""


@cache
def head(spacing_mm: float) -> LabelMap:
    return brain_phantom(spacing_mm)


def labels(spacing_mm: float = 1.0) -> np.ndarray:
    return head(spacing_mm).labels_zyx


def around(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_dilation(mask) & ~mask


def test_the_grid_is_the_papers():
    found = head(2.0)
    assert (found.labels_zyx.dtype, found.labels_zyx.shape, found.spacing_mm) == (np.int16, (38, 85, 85), (2.0,) * 3)
    assert labels().shape == (76, 170, 170)
    assert labels(3.0).shape == (25, 57, 57)


def test_every_volume_is_an_adults():
    counts = np.bincount(labels().ravel(), minlength=600)
    wrong = {label: counts[label] for label, median in VOLUMES_MM3.items() if not 0.5 < counts[label] / median < 2}
    assert not wrong


def test_a_coarser_map_is_the_same_head():
    fine, coarse = (np.bincount(labels(step).ravel(), minlength=600) * step**3 for step in (1.0, 2.0))
    for label in VOLUMES_MM3:
        # some hundred voxels are counted to a few per cent only
        assert coarse[label] == pytest.approx(fine[label], rel=0.03 + 1.5 / np.sqrt(fine[label] / 8)), label
    blocks = labels().reshape(38, 2, 85, 2, 85, 2)
    inside = (blocks == blocks[:, :1, :, :1, :, :1]).all((1, 3, 5))
    # where eight voxels agree the coarse one around them says the same, but for what is thinner than they are
    assert (labels(2.0)[inside] == blocks[:, 0, :, 0, :, 0][inside]).mean() > 0.995


def test_there_is_no_randomness():
    again = brain_phantom(3.0)
    assert again.labels_zyx.tobytes() == labels(3.0).tobytes()


@pytest.mark.parametrize("left, right", PAIRS)
def test_left_is_left_and_the_sides_are_nearly_equal(left, right):
    masks = [labels() == label for label in (left, right)]
    towards_left = [np.nonzero(mask)[2] - 84.5 for mask in masks]
    assert towards_left[0].mean() > 5, "x runs to the patient's left"
    assert towards_left[1].mean() < -5
    assert (towards_left[0] > -1.5).all(), "no structure crosses the midline by more than it is bent"
    assert (towards_left[1] < 1.5).all()
    assert masks[0].sum() == pytest.approx(masks[1].sum(), rel=0.15)
    assert not np.array_equal(masks[0], masks[1][..., ::-1]), "nobody is his own mirror image"


@pytest.mark.parametrize("label", [10, 49, 11, 50, 12, 51, 13, 52, 14, 17, 53])
def test_deep_structures_are_in_one_piece(label):
    assert ndimage.label(labels() == label)[1] == 1


@pytest.mark.parametrize(
    "label, least", [(2, 0.98), (41, 0.98), (3, 0.98), (42, 0.98), (4, 0.99), (43, 0.99), (26, 0.98)]
)
def test_large_structures_are_all_but_in_one_piece(label, least):
    pieces, _ = ndimage.label(labels() == label)
    counts = np.bincount(pieces.ravel())[1:]
    assert counts.max() > least * counts.sum()


@pytest.mark.parametrize("caudate, ventricle, white, cortex", [(11, 4, 2, 3), (50, 43, 41, 42)])
def test_the_caudate_lies_between_ventricle_and_white_matter(caudate, ventricle, white, cortex):
    mask = labels() == caudate
    neighbours = labels()[around(mask)]
    shares = np.bincount(neighbours, minlength=600) / len(neighbours)
    assert shares[ventricle] > 0.25
    assert shares[white] > 0.4
    assert shares[cortex] + shares[24] < 0.01
    z, y, x = np.nonzero(mask)
    head, tail = y < 80, y > 104
    assert (y == 76).sum() > 4 * (y == 108).sum() > 0, "it tapers to the back"
    assert z[tail].mean() > z[head].mean() + 5, "and rises"
    beside = np.abs(x - 84.5)
    assert beside[tail].mean() > beside[head].mean() + 3, "and runs outwards"
    in_plane = np.abs(np.nonzero(labels()[:, 75] == ventricle)[1] - 84.5).mean()
    assert in_plane < beside[y == 75].mean(), "the frontal horn lies on its inner side"


def test_a_ribbon_of_cortex_covers_the_white_matter_and_folds():
    cortex, fluid, white = np.isin(labels(), (3, 42)), labels() == 24, np.isin(labels(), (2, 41))
    from_fluid = ndimage.distance_transform_edt(~fluid)
    assert np.percentile(from_fluid[cortex], 95) < 4, "it is 2.6 mm thick"
    bare = white & ndimage.binary_dilation(fluid)
    covered = white & ndimage.binary_dilation(cortex)
    assert bare.sum() < 0.05 * covered.sum()
    # folds: far more surface than the hull that it lies under, and half of it is out of sight
    skull_side = around(labels() >= 500) & (labels() < 500)
    surface = cortex & ndimage.binary_dilation(fluid)
    assert surface.sum() > 2 * skull_side.sum()
    depth = ndimage.distance_transform_edt((labels() > 0) & (labels() < 500))
    assert np.median(depth[surface]) > 8


def test_shells_lie_in_each_other():
    middle = labels()[40]
    outwards = [middle[85, x] for x in range(85, 170)]
    order = list(dict.fromkeys(label for label in outwards if label in (0, 507, 511, 515)))
    assert order == [515, 507, 511, 0]
    assert set(np.unique(labels()[around(labels() == 0)])) <= {511}, "outside touches nothing but skin"


@pytest.mark.parametrize("spacing_mm", [0.0, -1.0, 6.5, float("nan")])
def test_an_impossible_spacing_is_refused(spacing_mm):
    with pytest.raises(DatasetError, match="choose a spacing"):
        brain_phantom(spacing_mm)


def test_structures_lie_where_they_lie_in_real_heads():
    data = os.environ.get("NNUNET_AL_TEST_DATA")
    files = sorted(Path(data).glob("brain_labels/brain_0[2468].nii.gz")) if data else []
    if not files:
        pytest.skip("NNUNET_AL_TEST_DATA names no folder with brain_labels.")
    images = [SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(file)), "LPS") for file in files]
    real = [SimpleITK.GetArrayFromImage(image).astype(np.int16) for image in images]
    for label in (10, 49, 11, 50, 12, 51, 13, 52, 14, 16, 17, 53, 18, 54, 26, 58, 28, 60):
        ours, *theirs = (np.argwhere(array == label).mean(0) for array in (labels(), *real))
        assert np.linalg.norm(ours - np.mean(theirs, 0)) < 5, label  # mm; people differ by as much


def test_the_depth_in_an_ellipsoid_is_a_distance():
    ball = Ellipsoid((1.0, 2.0, 3.0), (4.0, 4.0, 4.0))
    points = np.array([[1.0, 2.0, 6.0], [1.0, 2.0, 9.0], [1.0, 6.0, 3.0]]).T
    np.testing.assert_allclose(ball.depth(points), [1.0, -2.0, 0.0], atol=1e-12)
    half = Ellipsoid((0.0, 0.0, 0.0), (4.0, 4.0, 4.0), below=2.0)
    np.testing.assert_allclose(half.depth(np.array([[3.0, 0, 0], [-3.0, 0, 0]]).T), [1.0, -1.0], atol=1e-12)


def test_a_straight_sweep_is_a_leaning_cylinder():
    # an ellipse of 4 by 2 mm that leans by 90 degrees: its long axis lies along u
    cylinder = Sweep(1, ((0.0, 1.0, 2.0, 4.0, 2.0, 90.0), (10.0, 1.0, 2.0, 4.0, 2.0, 90.0)))
    points = np.array([[1, 5, 5.5], [1, 5, 6.5], [2.5, 5, 2], [3.5, 5, 2], [1, 10.5, 2], [1, -0.5, 2]]).T
    assert cylinder.contains(points).tolist() == [True, False, True, False, False, False]
    slanted = Sweep(0, ((0.0, 0.0, 0.0, 1.0, 1.0, 0.0), (10.0, 10.0, 0.0, 1.0, 1.0, 0.0)))
    assert slanted.contains(np.array([[5.0, 5.5, 0], [5.0, 6.5, 0]]).T).tolist() == [True, False]


def test_waves_have_their_length_and_size():
    line = np.stack([np.linspace(0, 4000, 40_000), np.zeros(40_000), np.zeros(40_000)])
    values = waves(line, 20.0, 12)
    assert np.sqrt(np.mean(values**2)) == pytest.approx(1, abs=0.15)
    np.testing.assert_array_equal(waves(line[:, :7], 20.0, 12), values[:7])
