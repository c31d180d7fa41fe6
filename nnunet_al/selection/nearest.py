"""Exact distances of the pool to the nearest of several centres, computed only where a lower bound requires it."""

from __future__ import annotations

import numpy as np

from nnunet_al.selection.distances import squared_pairs, squared_to, tiles
from nnunet_al.selection.lower_bound import Centres, product_type

# numbers of a tile of rows, of a tile of bounds, and of the centres that are prepared at a time
_ROW_ELEMENTS = 1 << 22
_BOUND_ELEMENTS = 1 << 19
_CENTRE_ELEMENTS = 1 << 22
# with fewer numbers per row, a sum of squares costs no more than a bound
_FEWEST_DIMENSIONS = 8
# beyond this share of the pairs, all rows per centre are faster than single pairs
_DENSE = 0.25


def nearest_squared(embeddings_N_d: np.ndarray, centres_M_d: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distance (N,) of each embedding to its nearest centre, as float64.

    The result is bitwise the minimum of `squared_to` over all centres; a lower bound from matrix products
    (`lower_bound.Centres`) excludes most pairs. Besides the result it needs less than 100 MB for any N and M, if a row
    has less than 65 536 numbers.

    Parameters
    ----------
    embeddings_N_d : float array (N, d)
        finite; may be memory-mapped: it is read in tiles of rows, once if M · d is at most 4 million.
    centres_M_d : float array (M, d)
        the centres; without any (M = 0) the distance is infinite.
    """
    assert embeddings_N_d.ndim == centres_M_d.ndim == 2
    count, dimensions = embeddings_N_d.shape
    squared_N = np.full(count, np.inf)
    if len(centres_M_d) == 0:
        return squared_N
    assert centres_M_d.shape[1] == dimensions, f"centres of {centres_M_d.shape[1]} for embeddings of {dimensions}"
    # a bound would cost as much: it needs the distance to an anchor and to a centre
    if len(centres_M_d) <= 2 or dimensions < _FEWEST_DIMENSIONS:
        for point_d in centres_M_d:
            np.minimum(squared_N, squared_to(embeddings_N_d, point_d), out=squared_N)
    else:
        anchor_d = central_anchor(centres_M_d)
        for part in tiles(len(centres_M_d), dimensions, _CENTRE_ELEMENTS):
            centres = Centres.of(centres_M_d[part], anchor_d, product_type(embeddings_N_d))
            update_nearest(squared_N, embeddings_N_d, centres, anchor_d)
    assert np.isfinite(squared_N).all(), "an embedding is not finite"
    return squared_N


def central_anchor(centres_M_d: np.ndarray) -> np.ndarray:
    """Return the float64 mean (d,) of at most 512 of the centres."""
    with np.errstate(all="ignore"):
        return np.asarray(centres_M_d[:: max(1, len(centres_M_d) // 512)].mean(axis=0, dtype=np.float64))


def update_nearest(
    squared_N: np.ndarray,
    embeddings_N_d: np.ndarray,
    centres: Centres,
    anchor_d: np.ndarray,
    rows_K: np.ndarray | None = None,
    away_N: np.ndarray | None = None,
) -> None:
    """Update the squared distances to the nearest centre, in place, by additional centres.

    Squared distances without any centre are inf. ``centres`` were prepared with ``anchor_d``, which is any point. With
    ``rows_K`` only these rows are updated, each at most once. ``away_N`` are the squared distances to the anchor by
    `squared_to`, if already known.
    """
    count, dimensions = squared_N.size if rows_K is None else len(rows_K), embeddings_N_d.shape[1]
    columns = min(max(len(centres), 1), 512)
    for tile in tiles(count, 1, min(_ROW_ELEMENTS // max(dimensions, 1), _BOUND_ELEMENTS // columns)):
        rows = tile if rows_K is None else rows_K[tile]
        rows_T_d, nearest_T = np.asarray(embeddings_N_d[rows]), squared_N[rows]
        away_T = squared_to(rows_T_d, anchor_d) if away_N is None else away_N[rows]
        for start in range(0, len(centres), columns):
            _update_tile(nearest_T, rows_T_d, away_T, centres[start : start + columns])
        squared_N[rows] = nearest_T


def _update_tile(nearest_T: np.ndarray, rows_T_d: np.ndarray, away_T: np.ndarray, centres: Centres) -> None:
    lower_T_M = centres.lower(rows_T_d, away_T)
    # the centre with the smallest bound first: its distance excludes most of the others; argmin prefers NaN
    best_T = lower_T_M.argmin(axis=1)
    every_T = np.arange(len(rows_T_d))
    open_K = np.flatnonzero(~(lower_T_M[every_T, best_T] >= nearest_T))
    nearest_T[open_K] = np.minimum(
        nearest_T[open_K], squared_pairs(rows_T_d, open_K, centres.points_M_d, best_T[open_K])
    )
    if len(centres) == 1:
        return
    lower_T_M[every_T, best_T] = np.inf
    open_T_M = ~(lower_T_M >= nearest_T[:, None])
    if np.count_nonzero(open_T_M) > _DENSE * open_T_M.size:
        for point_d in centres.points_M_d:
            np.minimum(nearest_T, squared_to(rows_T_d, point_d), out=nearest_T)
    else:
        row_P, point_P = np.nonzero(open_T_M)
        squared_P = squared_pairs(rows_T_d, row_P, centres.points_M_d, point_P)
        with np.errstate(invalid="ignore"):  # NaN is kept and detected later
            np.minimum.at(nearest_T, row_P, squared_P)
