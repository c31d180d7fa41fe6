"""Distances of the pool to the nearest of some centres, without a matrix of all pairs."""

from __future__ import annotations

import numpy as np

# float64 numbers of a tile: it and its differences stay in the processor's cache
_TILE_ELEMENTS = 1 << 16


def nearest_squared(embeddings_N_d: np.ndarray, centres_M_d: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distance (N,) of each embedding to its nearest centre, as float64.

    Sums of squared differences in float64, so that equal rows are exactly 0 apart, squares of small gradients do not
    vanish, and a row's result depends neither on its place in the pool nor on the tile that it is read with.

    Parameters
    ----------
    embeddings_N_d : float array (N, d)
        finite; it may be mapped from disk, for it is read in tiles of rows, once.
    centres_M_d : float array (M, d)
        no centre, M = 0, is infinitely far away.
    """
    assert embeddings_N_d.ndim == centres_M_d.ndim == 2
    count, dimensions = embeddings_N_d.shape
    squared_N = np.full(count, np.inf)
    if len(centres_M_d) == 0:
        return squared_N
    assert centres_M_d.shape[1] == dimensions, f"centres of {centres_M_d.shape[1]} for embeddings of {dimensions}"
    tile = max(1, _TILE_ELEMENTS // max(dimensions, 1))
    differences = np.empty((min(tile, count), dimensions))
    for start in range(0, count, tile):
        rows = np.asarray(embeddings_N_d[start : start + tile], dtype=np.float64)
        terms, nearest = differences[: len(rows)], squared_N[start : start + tile]
        for centre_d in centres_M_d:
            np.subtract(rows, np.asarray(centre_d, dtype=np.float64), out=terms)
            np.square(terms, out=terms)
            np.minimum(nearest, terms.sum(axis=1), out=nearest)
    assert np.isfinite(squared_N).all(), "an embedding is not finite"
    return squared_N
