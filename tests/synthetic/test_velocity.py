from __future__ import annotations

import numpy as np
import pytest

from nnunet_al.errors import DatasetError
from nnunet_al.synthetic.deformation import exponential, flow, jacobian_determinant
from nnunet_al.synthetic.template import LEFT_CAUDATE, Grid, LabelMap, native_grid
from nnunet_al.synthetic.velocity import MOVABLE, GlobalBasis, LocalBasis, global_lattice, labels_on

from .tiny_head import tiny_head


@pytest.fixture(scope="module")
def everywhere():
    return GlobalBasis.draw(np.random.default_rng(0))


@pytest.fixture(scope="module")
def caudate():
    return LocalBasis.draw(tiny_head(), np.random.default_rng(0))


def test_components_are_of_unit_length_and_their_deviations_decay(everywhere):
    lengths = np.sqrt((everywhere.components_k_3_zyx**2).sum(1).mean((1, 2, 3)))
    assert np.allclose(lengths, 1, atol=1e-4)
    assert (np.diff(everywhere.deviations_k) < 0).all()


def test_displacements_are_of_some_millimetres(everywhere):
    grid = Grid((5, 11, 11), (16.0,) * 3, (-32.0, -80.0, -80.0))
    squared = [(everywhere.velocity(grid, np.random.default_rng(seed)) ** 2).sum(0).mean() for seed in range(40)]
    assert 2 < np.sqrt(np.mean(squared)) < 5


def test_neither_resolution_nor_crop_changes_a_case_s_velocity(everywhere):
    small = Grid((6, 6, 6), (8.0,) * 3, (-24.0,) * 3)
    large = Grid((24, 24, 24), (4.0,) * 3, (-48.0,) * 3)
    one = everywhere.velocity(small, np.random.default_rng(7))
    other = everywhere.velocity(large, np.random.default_rng(7))
    assert np.abs(one).max() > 0.5
    assert np.allclose(one, other[:, 6:18:2, 6:18:2, 6:18:2], atol=1e-4)


def test_the_lattice_lies_at_the_same_places_whatever_the_grid():
    for grid in (Grid((10, 12, 14), (1.0,) * 3, (-3.3, -7.1, 2.9)), Grid((5, 5, 5), (2.2,) * 3, (0.1, 0.2, 0.3))):
        lattice = global_lattice(grid)
        for inner, outer in zip(grid.axes(), lattice.axes(), strict=True):
            assert np.allclose(outer / 4, np.round(outer / 4))
            assert outer[0] + 24 <= inner[0]
            assert inner[-1] <= outer[-1] - 24


def test_nothing_moves_in_other_structures_nor_far_from_the_caudate(caudate):
    head = tiny_head()
    labels = labels_on(head, caudate.lattice)
    moves = (caudate.components_k_3_zyx != 0).any(1)
    frozen = ~np.isin(labels, MOVABLE)
    assert frozen.any()
    assert not moves[:, frozen].any()
    positions = caudate.lattice.positions()[:, labels == LEFT_CAUDATE]
    for face in (0, -1):
        for axis in range(3):
            assert not np.take(moves, face, axis=axis + 1).any()
    assert moves[:, labels == LEFT_CAUDATE].any(1).all()
    assert positions[2].mean() > 0  # x runs to the left


@pytest.mark.parametrize("strength", [-2.0, 2.0, 4.0, 9.0])
def test_the_caudate_grows_with_the_strength_and_what_lies_beside_it_does_not_move(caudate, strength):
    head, native = tiny_head(), native_grid(tiny_head())
    velocity = caudate.velocity(strength, np.random.default_rng(1))
    positions = native.positions()
    sources = flow(velocity, caudate.lattice, positions.reshape(3, -1)).reshape(positions.shape)
    voxels = np.round((sources - np.array(native.origin_mm).reshape(3, 1, 1, 1)) / 1.5).astype(int)
    warped = head.labels_zyx[tuple(voxels)]
    growth = (warped == LEFT_CAUDATE).sum() / (head.labels_zyx == LEFT_CAUDATE).sum() - 1
    # more than in a head of natural size: a small caudate has much surface for its volume
    low, high = {-2.0: (-0.6, -0.1), 2.0: (0.2, 0.6), 4.0: (0.7, 1.2), 9.0: (2.0, 4.0)}[strength]
    assert low < growth < high
    for label in (4, 10, 24, 41, 43, 49, 50, 511):
        # between the nodes of the lattice a strong flow pulls at some voxels
        assert ((warped == label) != (head.labels_zyx == label)).sum() <= 0.01 * (head.labels_zyx == label).sum()


def test_the_strongest_deformation_is_one_to_one_between_the_nodes_too(caudate):
    """On one lattice it is not: that is what following the points themselves is for."""
    velocity = caudate.velocity(10.0, np.random.default_rng(1))
    grid = Grid((40, 40, 30), (1.0,) * 3, (-20.3, -20.4, -9.7))
    points = grid.positions().reshape(3, -1)
    followed = flow(velocity, caudate.lattice, points)
    at_once = points + exponential(velocity, caudate.lattice).at(points)
    smallest = [
        float(jacobian_determinant(moved.reshape(3, *grid.shape), grid.spacing_mm).min())
        for moved in (followed, at_once)
    ]
    assert smallest[0] > 0 > smallest[1]


def test_cases_differ_by_more_than_the_strength(caudate):
    one, same, other = (caudate.velocity(4.0, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert np.abs(one - other).max() > 0.1


def test_a_caudate_without_white_matter_is_refused():
    head = tiny_head()
    labels = np.where(head.labels_zyx == LEFT_CAUDATE, LEFT_CAUDATE, 24).astype(np.int16)
    with pytest.raises(DatasetError, match="no white matter"):
        LocalBasis.draw(LabelMap(labels, head.spacing_mm), np.random.default_rng(0))
