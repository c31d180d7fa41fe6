"""Costs worked out by hand, and laws of outlines: what nobody draws costs nothing."""

from __future__ import annotations

from itertools import permutations
from math import hypot, pi, sqrt

import numpy as np
import pytest

from nnunet_al.annotation.cost import Cost, annotation_cost

IGNORE = 9
ISOTROPIC = (1.0, 1.0, 1.0)


def background(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int32)


def test_voxels_are_counted():
    labels = np.full((2, 3, 4), IGNORE)
    labels[0, :2] = 0  # 8 voxels
    labels[0, 0, 0] = 1
    labels[0, 1, 3] = 2
    cost = annotation_cost(labels, ISOTROPIC, IGNORE)
    assert (cost.annotated_voxels, cost.foreground_voxels) == (8, 2)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_square_costs_its_sides_and_four_cut_corners(n):
    labels = background(3, n + 4, n + 4)
    labels[1, 2:-2, 2:-2] = 1
    expected = 4 * (n - 1) + 2 * sqrt(2)
    assert annotation_cost(labels, (3, 1, 1), IGNORE).contour_mm == pytest.approx(expected)


def test_spacing_stretches_the_outline():
    labels = background(2, 8, 9)
    labels[0, 2:5, 2:7] = 1  # 3 x 5 voxels of 0.5 x 2 mm
    expected = 2 * (2 * 0.5) + 2 * (4 * 2) + 4 * hypot(0.25, 1)
    assert annotation_cost(labels, (4, 0.5, 2), IGNORE).contour_mm == pytest.approx(expected)


def test_each_slice_is_drawn():
    labels = background(6, 9, 9)
    labels[1:4, 3:6, 3:6] = 1
    assert annotation_cost(labels, (2, 1, 1), IGNORE).contour_mm == pytest.approx(3 * (8 + 2 * sqrt(2)))


@pytest.mark.parametrize("axes", permutations(range(3)))
def test_slices_lie_across_the_largest_spacing_wherever_it_is(axes):
    labels = background(7, 8, 9)
    labels[2:4, 2:5, 2:6] = 1
    spacing = (5.0, 0.7, 1.1)
    turned = annotation_cost(labels.transpose(axes), [spacing[axis] for axis in axes], IGNORE)
    assert turned.contour_mm == pytest.approx(annotation_cost(labels, spacing, IGNORE).contour_mm)


def test_of_equal_spacings_the_first_axis_counts():
    labels = background(7, 8, 9)
    labels[2, 2:6, 2:7] = 1  # one slice of the first axis, lines in the others
    expected = 2 * 3 + 2 * 4 + 2 * sqrt(2)
    assert annotation_cost(labels, ISOTROPIC, IGNORE).contour_mm == pytest.approx(expected)


def test_touching_classes_cost_an_outline_each():
    labels = background(1, 8, 12)
    labels[0, 2:5, 2:5] = 1
    labels[0, 2:5, 5:8] = 200
    assert annotation_cost(labels, (2, 1, 1), IGNORE).contour_mm == pytest.approx(2 * (8 + 2 * sqrt(2)))


def test_a_hole_costs_its_outline_too():
    labels = background(1, 11, 11)
    labels[0, 2:9, 2:9] = 1
    labels[0, 5, 5] = 0
    assert annotation_cost(labels, (2, 1, 1), IGNORE).contour_mm == pytest.approx(24 + 2 * sqrt(2) + 2 * sqrt(2))


def test_a_circle_costs_about_its_circumference():
    y, x = np.indices((1, 101, 101))[1:]
    labels = ((y - 50) ** 2 + (x - 50) ** 2 <= 40**2).astype(int)
    # steps along the axes and the diagonals overestimate a circle by 8 (sqrt(2) - 1) / pi
    expected = 2 * pi * 40.5 * 8 * (sqrt(2) - 1) / pi
    assert annotation_cost(labels, (2, 1, 1), IGNORE).contour_mm == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("value", [0, 1])
def test_the_edges_of_region_and_image_are_drawn_by_nobody(value):
    labels = np.full((3, 9, 9), IGNORE)
    labels[1, 2:7, 2:7] = value
    assert annotation_cost(labels, (2, 1, 1), IGNORE).contour_mm == 0
    assert annotation_cost(np.full((3, 9, 9), value), (2, 1, 1), IGNORE).contour_mm == 0


def test_an_outline_stops_one_step_before_the_edge():
    labels = background(1, 6, 10)
    labels[0, :, :5] = 1  # a straight border over 6 rows
    assert annotation_cost(labels, (2, 1, 1), IGNORE).contour_mm == pytest.approx(5)
    labels[0, 4:] = IGNORE  # 4 rows left
    assert annotation_cost(labels, (2, 1, 1), IGNORE).contour_mm == pytest.approx(3)


def test_two_halves_cost_the_whole_less_what_crosses_the_cut():
    rng = np.random.default_rng(0)
    labels = background(4, 40, 40)
    for value in (1, 2, 3):
        k, j, i = rng.integers(0, 2), *rng.integers(4, 24, 2)
        labels[k : k + 3, j : j + 12, i : i + 9] = value
    whole = annotation_cost(labels, (3, 1, 1), IGNORE)
    left, right = labels.copy(), labels.copy()
    left[:, :, 20:] = right[:, :, :20] = IGNORE
    halves = annotation_cost(left, (3, 1, 1), IGNORE) + annotation_cost(right, (3, 1, 1), IGNORE)
    assert halves.annotated_voxels == whole.annotated_voxels
    assert halves.foreground_voxels == whole.foreground_voxels
    crossings = sum(int((np.diff((labels == v)[:, :, 19:21].any(2), axis=1)).sum()) for v in (1, 2, 3))
    assert whole.contour_mm - 3 * crossings <= halves.contour_mm < whole.contour_mm


def test_cutting_between_slices_costs_nothing():
    labels = background(4, 12, 12)
    labels[:, 3:8, 3:8] = 1
    upper, lower = labels.copy(), labels.copy()
    upper[2:] = lower[:2] = IGNORE
    parts = [annotation_cost(part, (3, 1, 1), IGNORE).contour_mm for part in (upper, lower)]
    assert sum(parts) == pytest.approx(annotation_cost(labels, (3, 1, 1), IGNORE).contour_mm)


@pytest.mark.parametrize("shape", [(3, 1, 8), (3, 8, 1), (1, 1, 1)])
def test_what_is_one_voxel_wide_has_no_outline(shape):
    assert annotation_cost(np.ones(shape, int), (2, 1, 1), IGNORE).contour_mm == 0


def test_nothing_costs_nothing():
    assert annotation_cost(np.full((2, 3, 4), IGNORE), ISOTROPIC, IGNORE) == Cost(0, 0, 0.0)
    assert annotation_cost(background(2, 3, 4), ISOTROPIC, IGNORE) == Cost(24, 0, 0.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_the_type_of_the_labels_does_not_matter_and_they_stay_as_they_were(dtype):
    labels = background(2, 9, 9).astype(dtype)
    labels[0, 3:6, 3:6] = 7
    before = labels.copy()
    labels.setflags(write=False)
    assert annotation_cost(labels, (2, 1, 1), IGNORE).contour_mm == pytest.approx(8 + 2 * sqrt(2))
    assert np.array_equal(labels, before)
