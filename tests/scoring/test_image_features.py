"""Features of regions from the image alone: answers worked out by hand, and images that give no number easily."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from nnunet_al.scoring.image_features import PERCENTILES, SCALES_MM, image_features, standardise

STATS = 2 + len(PERCENTILES)
PER_CHANNEL = STATS + len(SCALES_MM)
FINE = (0.001,)  # mm: no smoothing


def blob(shape=(6, 10, 12), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def test_intensities_are_standardised_over_nonzero_voxels():
    image = np.array([[[0, 0, 2, 4, 6, 8]]], np.float32)
    # nonzero: mean 5, standard deviation sqrt(5)
    z = (image[0, 0] - 5) / np.sqrt(5)
    whole, dark = image_features(image[None], (1, 1, 1), [((0, 1), (0, 1), (0, 6)), ((0, 1), (0, 1), (0, 2))], FINE)
    np.testing.assert_allclose(whole[:2], [z.mean(), z.std()], rtol=1e-6)
    np.testing.assert_allclose(whole[2:STATS], np.percentile(z, [5, 25, 50, 75, 95]), rtol=1e-5)
    np.testing.assert_allclose(dark[:STATS], [-np.sqrt(5), 0, *[-np.sqrt(5)] * 5], rtol=1e-6)


def test_brightness_and_contrast_of_the_scanner_change_nothing():
    image = blob()[None]
    boxes = [((0, 3), (0, 10), (0, 12)), ((2, 3), (1, 4), (5, 9))]
    np.testing.assert_allclose(
        image_features(3 * image + 500, (2, 1, 1), boxes), image_features(image, (2, 1, 1), boxes), rtol=1e-3, atol=1e-4
    )


def test_the_gradient_is_per_millimetre_along_every_axis():
    # a ramp of slope 1 per voxel along one axis after another; standardised slope = 1 / (standard deviation * spacing)
    spacing = (4.0, 0.5, 2.0)
    for axis in range(3):
        ramp = np.moveaxis(np.broadcast_to(np.arange(1.0, 10.0), (5, 7, 9)), 2, axis).astype(np.float32)
        box = tuple((0, length) for length in ramp.shape)
        (row,) = image_features(ramp[None], spacing, [box], FINE)
        assert row[STATS] == pytest.approx(1 / (ramp.std() * spacing[axis]), rel=1e-5)


def test_scales_are_physical():
    # a line of points every 8 mm, once in voxels of 1 mm and once in voxels of 2 mm: the smoothing is 4 mm in both
    line = np.random.default_rng(1).normal(10, 3, 60)
    z = (line - line.mean()) / line.std()
    (row,) = image_features(line[None, None, None].astype(np.float32), (1, 1, 2), [((0, 1), (0, 1), (0, 60))], (4.0,))
    expected = np.abs(np.gradient(gaussian_filter1d(z, 2.0, mode="nearest"), 2.0)).mean()
    assert row[STATS] == pytest.approx(expected, rel=1e-4)


def test_place_and_size_are_shares_of_the_image():
    (row,) = image_features(blob()[None], (1, 1, 1), [((2, 3), (0, 10), (3, 9))])
    np.testing.assert_allclose(row[PER_CHANNEL:], [2.5 / 6, 0.5, 0.5, 1 / 6, 1, 0.5])


def test_channels_are_described_one_after_the_other():
    image, boxes = np.stack([blob(seed=1), blob(seed=2)]), [((0, 6), (0, 5), (0, 12)), ((1, 2), (3, 9), (0, 4))]
    both = image_features(image, (3, 1, 1), boxes)
    assert both.shape == (2, 2 * PER_CHANNEL + 6)
    for channel in (0, 1):
        alone = image_features(image[channel : channel + 1], (3, 1, 1), boxes)
        here = slice(channel * PER_CHANNEL, (channel + 1) * PER_CHANNEL)
        np.testing.assert_array_equal(both[:, here], alone[:, :PER_CHANNEL])


@pytest.mark.parametrize(
    "image, spacing",
    [
        (np.zeros((4, 5, 6)), (1, 1, 1)),
        (np.full((4, 5, 6), 0.1), (1, 1, 1)),
        (np.pad(np.full((2, 3, 4), 7.0), 1), (1, 1, 1)),
        (blob((1, 8, 8)), (999, 1, 1)),
        (blob((1, 1, 1)), (1, 1, 1)),
        (blob((4, 8, 8)), (9.0, 0.3, 0.3)),
        (blob((4, 8, 8)) * 1e30, (1, 1, 1)),
        (blob((4, 8, 8)).astype(np.int16), (1, 1, 1)),
    ],
    ids=["zeros", "constant", "constant-in-zeros", "slice", "voxel", "thick-slices", "huge", "integers"],
)
def test_everything_is_a_number(image, spacing):
    boxes = [tuple((0, length) for length in image.shape), tuple((length - 1, length) for length in image.shape)]
    features = image_features(np.asarray(image)[None], spacing, boxes)
    assert features.shape == (2, PER_CHANNEL + 6)
    assert np.isfinite(features).all()
    assert np.isfinite(standardise(features)).all()


def test_a_constant_image_looks_the_same_whatever_its_value():
    boxes = [((0, 6), (0, 6), (0, 6)), ((1, 3), (1, 3), (1, 3))]
    one, other = (
        image_features(np.pad(np.full((4, 4, 4), value), 1)[None], (1, 1, 1), boxes) for value in (0.3, -40.0)
    )
    # inside: z = 0; around: (0 - value) / |value|
    np.testing.assert_allclose(one[1, :STATS], 0, atol=1e-6)
    np.testing.assert_allclose(one[0, :1], -(1 - 64 / 216))
    np.testing.assert_allclose(other[0, :1], 1 - 64 / 216)


def test_each_feature_counts_alike_and_what_never_differs_not_at_all():
    features = np.array([[1.0, 5.0, 100.0], [2.0, 5.0, 300.0], [3.0, 5.0, 200.0]])
    step = np.sqrt(1.5)
    np.testing.assert_allclose(standardise(features), [[-step, -step], [0, step], [step, 0]], atol=1e-12)


def test_differences_of_rounding_do_not_count():
    features = np.array([[1.0, 0.1 + 0.2], [2.0, 0.3]])
    assert standardise(features).tolist() == [[-1], [1]]


def test_regions_that_are_all_alike_are_no_distance_apart():
    assert standardise(np.ones((3, 4))).tolist() == [[0], [0], [0]]
    assert standardise(np.ones((0, 4))).shape == (0, 4)
