from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.ndimage import gaussian_filter, map_coordinates

from nnunet_al.synthetic.deformation import Displacement, exponential, flow, jacobian_determinant
from nnunet_al.synthetic.template import Grid


def lattice(n=24, node=2.0):
    return Grid((n, n + 1, n + 2), (node,) * 3, (-(n - 1) * node / 2,) * 3)


def bump(grid, longest, seed=0, length=4.0):
    """A random field that vanishes towards the faces."""
    rng = np.random.default_rng(seed)
    field = np.stack([gaussian_filter(rng.standard_normal(grid.shape), length / 2) for _ in range(3)])
    windows = [np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in grid.shape]
    field *= windows[0][:, None, None] * windows[1][:, None] * windows[2]
    return (longest * field / np.sqrt((field**2).sum(0).max())).astype(np.float32)


def by_ode(velocity, grid, points_3_N):
    """The flow as somebody else's integrator finds it."""
    origin = np.array(grid.origin_mm)[:, None]
    steps = np.array(grid.spacing_mm)[:, None]
    shape = points_3_N.shape

    def rate(_time, flat):
        nodes = (flat.reshape(shape) - origin) / steps
        return np.stack([map_coordinates(part, nodes, order=3, mode="mirror") for part in velocity]).ravel()

    return solve_ivp(rate, (0, 1), points_3_N.ravel(), rtol=1e-7, atol=1e-8).y[:, -1].reshape(shape)


def some_points(grid, n=60, seed=1, inner=0.7):
    half = (np.array(grid.shape) - 1) * grid.spacing_mm / 2
    middle = np.array(grid.origin_mm) + half
    return (middle[:, None] + inner * half[:, None] * np.random.default_rng(seed).uniform(-1, 1, (3, n))).astype(
        np.float32
    )


def test_no_velocity_is_the_identity():
    grid = lattice()
    nothing = np.zeros((3, *grid.shape), dtype=np.float32)
    assert not exponential(nothing, grid).vectors_3_zyx.any()
    points = some_points(grid)
    assert np.array_equal(flow(nothing, grid, points), points)


def test_a_constant_field_is_a_translation():
    grid = lattice()
    shift = np.array([3.0, -5.0, 0.7], dtype=np.float32)
    velocity = np.broadcast_to(shift.reshape(3, 1, 1, 1), (3, *grid.shape))
    assert np.allclose(exponential(velocity, grid).vectors_3_zyx, velocity, atol=1e-4)


def test_a_linear_field_is_the_exponential_of_its_matrix():
    grid = lattice(40)
    matrix = np.array([[0.1, 0.05, 0.0], [-0.03, -0.12, 0.04], [0.02, 0.0, 0.06]])
    velocity = np.einsum("ij,jzyx->izyx", matrix, grid.positions()).astype(np.float32)
    points = some_points(grid, inner=0.4)
    moved = points + exponential(velocity, grid).at(points)
    # the first step is linear: with the rule for its length an error of well under a tenth of a mm is left
    assert np.abs(moved - expm(matrix) @ points).max() < 0.03


@pytest.mark.parametrize("longest", [0.5, 3.0, 6.0])
def test_the_flow_is_the_one_of_a_general_integrator(longest):
    grid = lattice()
    velocity = bump(grid, longest)
    points = some_points(grid)
    expected = by_ode(velocity, grid, points)
    assert np.abs(points - expected).max() > 0.2 * longest
    assert np.abs(points + exponential(velocity, grid).at(points) - expected).max() < 0.02 * longest
    assert np.abs(flow(velocity, grid, points) - expected).max() < 0.02 * longest


def test_a_steep_flow_is_followed_point_by_point():
    grid = lattice(24, 1.0)
    positions = grid.positions()
    velocity = np.zeros_like(positions)
    # towards a wall at 0, linear near it: exp compresses by e^-5 there
    velocity[0] = -5 * np.clip(positions[0], 0, 1.5) * np.exp(-(positions[1] ** 2 + positions[2] ** 2) / 60)
    line = np.zeros((3, 200), dtype=np.float32)
    line[0] = np.linspace(-3, 8, 200)
    moved = flow(velocity, grid, line)
    assert (np.diff(moved[0]) > 0).all()
    assert np.abs(moved - by_ode(velocity, grid, line)).max() < 0.05


def test_backwards_after_forwards_is_the_identity_and_the_jacobian_is_positive():
    grid = lattice()
    velocity = bump(grid, 4.0, seed=3)
    there, back = exponential(velocity, grid), exponential(-velocity, grid)
    points = some_points(grid)
    assert np.abs(there.at(points)).max() > 1
    moved = points + there.at(points)
    assert np.abs(moved + back.at(moved) - points).max() < 0.1
    positions = grid.positions()
    determinant = jacobian_determinant(positions + there.vectors_3_zyx, grid.spacing_mm)
    assert 0 < determinant.min() < 0.9
    assert determinant.max() > 1.1


def test_the_resolution_changes_next_to_nothing():
    coarse = Grid((20, 20, 20), (4.0,) * 3, (-38.0,) * 3)
    fine = Grid((39, 39, 39), (2.0,) * 3, (-38.0,) * 3)
    velocity = bump(coarse, 4.0, seed=2, length=8.0)
    finer = Displacement(velocity, coarse).on(fine.axes())
    points = some_points(coarse)
    assert np.abs(exponential(velocity, coarse).at(points) - exponential(finer, fine).at(points)).max() < 0.05


def test_on_a_grid_and_at_its_points_are_the_same():
    grid = lattice()
    displacement = Displacement(bump(grid, 3.0), grid)
    other = Grid((9, 8, 7), (1.7, 2.1, 2.9), (-7.0, -8.1, -9.3))
    scattered = displacement.at(other.positions().reshape(3, -1)).reshape(3, *other.shape)
    assert np.abs(displacement.on(other.axes()) - scattered).max() < 0.01
    assert np.allclose(displacement.on(grid.axes()), displacement.vectors_3_zyx, atol=1e-5)


def test_nothing_is_displaced_outside_the_lattice():
    grid = lattice()
    displacement = Displacement(np.ones((3, *grid.shape), dtype=np.float32), grid)
    points = np.array([[0, 0, 0], [1000, 0, 0], [0, -24.5, 0]], dtype=np.float32).T
    assert displacement.at(points).any(0).tolist() == [True, False, False]


def test_the_determinant_of_an_affine_map_is_that_of_its_matrix():
    grid = Grid((5, 6, 7), (1.0, 2.0, 0.5), (0.0, 0.0, 0.0))
    matrix = np.array([[1.2, 0.1, 0.0], [0.3, 0.8, -0.2], [0.1, 0.0, 1.1]])
    mapped = np.einsum("ij,jzyx->izyx", matrix, grid.positions())
    assert np.allclose(jacobian_determinant(mapped, grid.spacing_mm), np.linalg.det(matrix), atol=1e-5)
    mirrored = grid.positions() * np.array([1, 1, -1]).reshape(3, 1, 1, 1)
    assert np.allclose(jacobian_determinant(mirrored, grid.spacing_mm), -1)
