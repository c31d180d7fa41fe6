"""Approximation of scattered vectors by multilevel B-splines, which fall to 0 away from the data."""

from __future__ import annotations

from itertools import product

import numpy as np

ELEMENTS, LEVELS = 10, 3
"""Elements of the coarsest mesh along each axis, and number of meshes, each twice as fine as the one before."""


def extend(values_3_N: np.ndarray, nodes_3_N: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return vectors on a whole lattice, ``extended_3_zyx``, from those at some of its nodes.

    Lee, Wolberg and Shin (1997): a cubic B-spline approximates the vectors on a coarse mesh of control points, then on
    finer ones what the coarser ones have left over.

    ``values_3_N`` are the vectors at N nodes, ``nodes_3_N`` the indices of these, and ``shape`` the lattice's nodes.
    """
    last = np.maximum(np.array(shape) - 1, 1)
    unit_3_N = nodes_3_N / last[:, None]
    axes = [np.arange(length) / end for length, end in zip(shape, last, strict=True)]
    extended_3_zyx = np.zeros((3, *shape))
    left_3_N = values_3_N.astype(float)
    for level in range(LEVELS):
        elements = ELEMENTS * 2**level
        control_3_abc = _control_points(left_3_N, unit_3_N, elements)
        bases = [_basis_matrix(axis, elements) for axis in axes]
        extended_3_zyx += np.einsum("kabc,za,yb,xc->kzyx", control_3_abc, *bases, optimize=True)
        left_3_N = values_3_N - extended_3_zyx[(slice(None), *nodes_3_N)]
    return extended_3_zyx


def _control_points(values_3_N: np.ndarray, unit_3_N: np.ndarray, elements: int) -> np.ndarray:
    """Return (3, a, b, c): for each control point the mean of what each datum asks of it, weighted by its influence².

    Datum n asks for φ = w z / Σ w², with the weights w of its 4 x 4 x 4 control points and its value z.
    """
    places_3_N, weights_3_4_N = zip(*(_weights(axis, elements) for axis in unit_3_N), strict=True)
    squares_N = np.prod([(weights_4_N**2).sum(0) for weights_4_N in weights_3_4_N], axis=0)
    shape = (elements + 3,) * 3
    above, below = np.zeros((3, *shape)), np.zeros(shape)
    for offsets in product(range(4), repeat=3):
        weight_N = np.prod([w[o] for w, o in zip(weights_3_4_N, offsets, strict=True)], axis=0)
        where = tuple(place + offset for place, offset in zip(places_3_N, offsets, strict=True))
        np.add.at(below, where, weight_N**2)
        for component, value_N in zip(above, values_3_N, strict=True):
            np.add.at(component, where, weight_N**3 * value_N / squares_N)
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _basis_matrix(unit_P: np.ndarray, elements: int) -> np.ndarray:
    """Return the weights (P, a) of all control points along an axis."""
    places_P, weights_4_P = _weights(unit_P, elements)
    matrix_P_a = np.zeros((len(unit_P), elements + 3))
    for offset, weight_P in enumerate(weights_4_P):
        matrix_P_a[np.arange(len(unit_P)), places_P + offset] = weight_P
    return matrix_P_a


def _weights(unit_N: np.ndarray, elements: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of four control points for each position in [0, 1], and the cubic weights (4, N) of the four."""
    places_N = np.minimum((unit_N * elements).astype(int), elements - 1)
    t = unit_N * elements - places_N
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return places_N, np.stack(weights) / 6
