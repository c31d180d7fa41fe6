from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage
from scipy.spatial.distance import cdist

from nnunet_al.evaluation.surface import hausdorff_distance, hd95

SPACING = (2.5, 0.7, 1.1)


def blob(seed: int, shape=(14, 20, 18)) -> np.ndarray:
    """A ragged structure with holes that does not touch the image's border."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    mask = field > np.percentile(field, 80)
    inside = np.zeros(shape, dtype=bool)
    inside[1:-1, 1:-1, 1:-1] = True
    return mask & inside


def brute_surface(mask: np.ndarray) -> np.ndarray:
    """Coordinates of voxels with a face neighbour outside, by looking at each neighbour."""
    padded = np.pad(mask, 1)
    result = []
    for point in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                neighbour = point + 1
                neighbour[axis] += step
                if not padded[tuple(neighbour)]:
                    result.append(tuple(point))
    return np.array(sorted(set(result)))


def brute_hausdorff(first: np.ndarray, second: np.ndarray, spacing, percentile: float) -> float:
    distances = cdist(brute_surface(first) * np.array(spacing), brute_surface(second) * np.array(spacing))
    return max(np.percentile(distances.min(axis=1), percentile), np.percentile(distances.min(axis=0), percentile))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("percentile", [50, 95, 100])
def test_equals_brute_force(seed, percentile):
    first, second = blob(seed), blob(seed + 100)
    expected = brute_hausdorff(first, second, SPACING, percentile)
    np.testing.assert_allclose(hausdorff_distance(first, second, SPACING, percentile), expected)


def test_equals_brute_force_at_the_border_of_the_image():
    first, second = np.zeros((2, 6, 7, 8), dtype=bool)
    first[:3, :, 2:] = True
    second[2:, 3:, :] = True
    np.testing.assert_allclose(
        hausdorff_distance(first, second, SPACING, 95), brute_hausdorff(first, second, SPACING, 95)
    )


@pytest.mark.parametrize("seed", range(3))
def test_equals_simpleitk_contours_and_distance_maps(seed):
    first, second = blob(seed), blob(seed + 50)

    def image(mask):
        result = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        result.SetSpacing(SPACING[::-1])
        return result

    def directed(start, goal):
        distance = SimpleITK.SignedMaurerDistanceMap(
            SimpleITK.LabelContour(image(goal), fullyConnected=False), squaredDistance=False, useImageSpacing=True
        )
        surface = SimpleITK.GetArrayFromImage(SimpleITK.LabelContour(image(start), fullyConnected=False)) > 0
        return np.percentile(np.abs(SimpleITK.GetArrayFromImage(distance))[surface], 95)

    expected = max(directed(first, second), directed(second, first))
    np.testing.assert_allclose(hd95(first, second, SPACING), expected, rtol=1e-5)


def test_equals_simpleitk_hausdorff_for_boxes():
    # between sets, not surfaces; for convex ones the two agree
    first, second = np.zeros((2, 12, 20, 18), dtype=bool)
    first[2:6, 3:12, 4:9] = True
    second[3:10, 5:18, 2:8] = True
    images = [SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (first, second)]
    for image in images:
        image.SetSpacing(SPACING[::-1])
    distance = SimpleITK.HausdorffDistanceImageFilter()
    distance.Execute(*images)
    np.testing.assert_allclose(hausdorff_distance(first, second, SPACING), distance.GetHausdorffDistance(), rtol=1e-6)


def test_a_shift_by_hand():
    first, second = np.zeros((2, 10, 10, 10), dtype=bool)
    first[3, 3, 3] = second[5, 3, 3] = True
    assert hd95(first, second, SPACING) == 5.0
    assert hd95(first, first, SPACING) == 0.0


def test_the_larger_direction_counts():
    first, second = np.zeros((2, 1, 40), dtype=bool)
    first[0, 0] = True
    second[0, [0, 30]] = True  # from second to first up to 30, back 0
    assert hausdorff_distance(first, second, (1, 1)) == 30.0
    assert hausdorff_distance(second, first, (1, 1)) == 30.0


def test_an_axis_of_length_one_is_left_out():
    first, second = blob(1)[6], blob(2)[6]
    flat = hd95(first[None], second[None], (999.0, 0.7, 1.1))
    assert flat == hd95(first, second, (0.7, 1.1))
    assert flat == hd95(first[:, None], second[:, None], (0.7, 999.0, 1.1))
    # if every voxel were surface, a filled square inside a larger one would be at distance 0 from it in one direction
    outer, inner = np.zeros((2, 1, 20, 20), dtype=bool)
    outer[:, 1:19, 1:19] = True
    inner[:, 8:12, 8:12] = True
    np.testing.assert_allclose(hausdorff_distance(inner, outer, (1, 1, 1), 0), 7.0 * np.sqrt(1))


def test_empty_masks():
    empty, full = np.zeros((1, 3, 4), dtype=bool), np.ones((1, 3, 4), dtype=bool)
    assert hd95(empty, empty, (999, 1, 1)) == 0
    assert hd95(full, empty, (999, 1, 1)) == hd95(empty, full, (999, 1, 1)) == 5.0


def test_a_single_voxel_image():
    one = np.ones((1, 1, 1), dtype=bool)
    assert hd95(one, one, (1, 1, 1)) == 0
    assert hd95(one, ~one, (3, 1, 1)) == 3


def test_symmetric_and_scales_with_the_spacing():
    first, second = blob(3), blob(4)
    distance = hd95(first, second, SPACING)
    assert distance == hd95(second, first, SPACING)
    np.testing.assert_allclose(hd95(first, second, [2 * step for step in SPACING]), 2 * distance)


def test_padding_the_image_changes_nothing():
    first, second = blob(5), blob(6)
    assert hd95(np.pad(first, 3), np.pad(second, 3), SPACING) == hd95(first, second, SPACING)
