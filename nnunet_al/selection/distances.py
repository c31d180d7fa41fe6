"""Squared Euclidean distances in float64, bitwise determined by the two rows."""

from __future__ import annotations

import numpy as np

# float64 numbers per tile: the tile and its differences stay in the processor's cache
_TILE_ELEMENTS = 1 << 16


def squared_to(rows_K_d: np.ndarray, point_d: np.ndarray) -> np.ndarray:
    """Return Σ (x - p)² of each row, float64 (K,).

    The squares of the float64 differences are summed, so that equal rows have distance 0 exactly and squares of small
    gradients do not underflow. A row's result depends neither on its index nor on the other rows. Rows may be
    memory-mapped: they are read once, in tiles.
    """
    point_d = np.asarray(point_d, dtype=np.float64)
    squared_K = np.empty(len(rows_K_d))
    for tile in tiles(*rows_K_d.shape):
        squared_K[tile] = _squares_summed(np.asarray(rows_K_d[tile], dtype=np.float64), point_d)
    return squared_K


def squared_pairs(rows_K_d: np.ndarray, row_P: np.ndarray, points_M_d: np.ndarray, point_P: np.ndarray) -> np.ndarray:
    """Return the squared distances of P pairs, float64 (P,): of row ``row_P[i]`` and point ``point_P[i]``."""
    squared_P = np.empty(len(row_P))
    for tile in tiles(len(row_P), rows_K_d.shape[1]):
        rows = np.asarray(rows_K_d[row_P[tile]], dtype=np.float64)
        squared_P[tile] = _squares_summed(rows, np.asarray(points_M_d[point_P[tile]], dtype=np.float64))
    return squared_P


def tiles(count: int, dimensions: int, elements: int | None = None) -> list[slice]:
    """Return slices that cover ``count`` rows, each of about ``elements`` numbers and at least one row."""
    rows = max(1, (_TILE_ELEMENTS if elements is None else elements) // max(dimensions, 1))
    return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]


def _squares_summed(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    # always in C order, because the order of the sum's terms decides its last bit
    terms = np.empty(rows.shape)
    np.subtract(rows, points, out=terms)
    np.square(terms, out=terms)
    summed: np.ndarray = terms.sum(axis=1)
    return summed
