"""A few coordinates of each embedding, kept in memory, to exclude embeddings to which a new centre is not nearer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_al.selection.distances import squared_to, tiles
from nnunet_al.selection.lower_bound import (
    below_overflow,
    float64_error,
    norm_above,
    product_error,
    product_type,
    products,
    underflow,
)

_COORDINATES = 64
_SAMPLE = 256
# with fewer numbers per row, reading the row costs hardly more than reading its sketch
_FEWEST_DIMENSIONS = 1024
# numbers of the sample, to limit the directions' memory where rows are long, and of a tile of rows
_SAMPLE_ELEMENTS = 1 << 22
_ROW_ELEMENTS = 1 << 21


@dataclass(frozen=True, eq=False)
class Sketch:
    """Coordinates z = V x' of x' = x - m along nearly orthonormal directions, and ρ, the norm of the residual.

    With r = x' minus its projection on the rows of V, and the same for a centre's c', the Cauchy-Schwarz inequality
    gives x' · c' <= z_x · z_c + ρ_x ρ_c for ρ >= ‖r‖, and so

        ‖x - c‖² >= (1 - ε) (‖x'‖² + ‖c'‖²) - 2 (z_x · z_c + ρ_x ρ_c) - τ

    without reading x. ε covers the rounding errors. With K the inverse of V Vᵀ, ‖K - I‖ <= h, and z off by at most κ
    ‖x'‖, x' · c' is z_x · z_c + r_x · r_c up to (2.1 κ + 1.1 h) ‖x'‖ ‖c'‖; ρ² is a little more than ‖x'‖² - (‖z‖ - κ
    ‖x'‖)² (1 - h); the product of (z, ρ) and (z, ρ) is off by at most `product_error` of r + 1 numbers times 1.1 ‖x'‖
    ‖c'‖; and 2 ‖x'‖ ‖c'‖ <= ‖x'‖² + ‖c'‖². κ is √r (g + 3 u) with g = `product_error` of d numbers. The loss by
    underflow, at most a = 8 d √r times the smallest normal number of z, is part of τ, as 4 a² / κ.

    Attributes
    ----------
    coordinates_N_r : float32 or float64 array (N, r + 1), z and ρ
    away_N : float64 array (N,), squared distances to the anchor by `squared_to`
    error : ε
    lost : the part of τ that is the same for all centres
    """

    coordinates_N_r: np.ndarray
    away_N: np.ndarray
    error: float
    lost: float

    def open_to(self, centre: int, squared_N: np.ndarray) -> np.ndarray:
        """Return the indices (K,) of the embeddings that may be nearer to this centre than to all earlier ones."""
        return np.flatnonzero(~(self.lower(centre) >= squared_N))

    def lower(self, centre: int) -> np.ndarray:
        """Return the lower bounds of all squared distances to this embedding, float64 (N,); NaN where unknown."""
        kind = self.coordinates_N_r.dtype
        with np.errstate(all="ignore"):
            away_N = below_overflow(self.away_N, kind)
            scale = np.ldexp(1.0, np.frexp(np.nan_to_num(norm_above(away_N[centre], 1), nan=1.0))[1] + 1)
            direction_r = (self.coordinates_N_r[centre].astype(np.float64) / scale).astype(kind)
            lower_N = products(self.coordinates_N_r, direction_r[None])[:, 0]
            lower_N *= -2 * scale
            lower_N += (1 - self.error) * (away_N + away_N[centre])
            lower_N -= underflow(scale, len(direction_r), kind) + self.lost
        return lower_N


def sketch_of(embeddings_N_d: np.ndarray, anchor_d: np.ndarray) -> Sketch | None:
    """Return a sketch along the principal axes of some rows, from one pass; None where it would not save time.

    The choice of the rows for the axes affects the time of a selection, never its result. Memory: 260 bytes per region
    (float32), and less than 150 MB besides.

    Parameters
    ----------
    embeddings_N_d : float array (N, d)
        finite; may be memory-mapped.
    anchor_d : float64 array (d,)
        any point m, best in the middle of the data.
    """
    count, dimensions = embeddings_N_d.shape
    kind, precision = product_type(embeddings_N_d), np.finfo(product_type(embeddings_N_d))
    sampled = min(_SAMPLE, _SAMPLE_ELEMENTS // max(dimensions, 1))
    if dimensions < _FEWEST_DIMENSIONS or count < 4 * sampled or sampled < 8:
        return None
    with np.errstate(all="ignore"):
        sample_S_d = embeddings_N_d[:: count // sampled][:sampled] - anchor_d
        directions_r_d = _principal_axes(sample_S_d, min(_COORDINATES, sampled // 4)).astype(kind)
        del sample_S_d
        rank = len(directions_r_d)
        skew = _skew(directions_r_d)
        relative = np.sqrt(rank) * (1 + skew) * (product_error(dimensions, kind) + 1.5 * float(precision.eps))
        absolute = 8 * dimensions * np.sqrt(rank) * float(precision.tiny)
        if not (rank > 0 and skew < 0.01 and relative < 0.01):
            return None
        coordinates_N_r = np.empty((count, rank + 1), dtype=kind)
        away_N = np.empty(count)
        for tile in tiles(count, dimensions, _ROW_ELEMENTS):
            rows = np.asarray(embeddings_N_d[tile])
            away_N[tile] = squared_to(rows, anchor_d)
            shifted = np.asarray(rows - anchor_d if anchor_d.any() else rows, dtype=kind)
            z = products(shifted, directions_r_d).astype(kind)
            coordinates_N_r[tile, :rank] = z
            coordinates_N_r[tile, rank] = _residual_norm(away_N[tile], z, skew, relative, absolute, dimensions)
    error = 2.2 * relative + relative + 1.2 * skew + 1.2 * product_error(rank + 1, kind) + float64_error(dimensions)
    lost = 4 * absolute**2 / relative + dimensions * 2.0**-1016
    return Sketch(coordinates_N_r, away_N, error, lost)


def _principal_axes(rows_S_d: np.ndarray, rank: int) -> np.ndarray:
    """Return orthonormal rows along the largest principal axes of an uncentred sample, which is scaled in place."""
    largest = max(rows_S_d.max(), -rows_S_d.min())
    if not (np.isfinite(largest) and largest > 0):
        return rows_S_d[:0]
    rows_S_d /= largest
    weight_S, vectors_S_S = np.linalg.eigh(rows_S_d @ rows_S_d.T)
    kept = np.flatnonzero(weight_S > 1e-6 * weight_S[-1])[-rank:]
    axes_r_d: np.ndarray = (vectors_S_S[:, kept] / np.sqrt(weight_S[kept])).T @ rows_S_d
    return axes_r_d


def _skew(directions_r_d: np.ndarray) -> float:
    """Return h, a bound of the norm of (V Vᵀ)⁻¹ - I; inf where it is large."""
    exact_r_d = directions_r_d.astype(np.float64)
    rank, dimensions = exact_r_d.shape
    off = float(np.linalg.norm(exact_r_d @ exact_r_d.T - np.eye(rank))) + rank * float64_error(dimensions)
    return off / (1 - off) if off < 0.5 else np.inf


def _residual_norm(
    away_T: np.ndarray, z_T_r: np.ndarray, skew: float, relative: float, absolute: float, dimensions: int
) -> np.ndarray:
    """Return ρ, (T,), an upper bound of the norm of the residual."""
    unit = float(np.finfo(z_T_r.dtype).eps)
    slack = 1 + float64_error(dimensions)
    least_T = np.linalg.norm(z_T_r.astype(np.float64), axis=1) - 1.01 * relative * np.sqrt(away_T) - 1.01 * absolute
    rho_T = np.sqrt(np.maximum(away_T * slack - np.square(np.maximum(least_T, 0)) * (1 - skew) / slack, 0))
    rho_T = rho_T + norm_above(np.zeros(()), dimensions)
    return (rho_T * (1 + 2 * unit) + float(np.finfo(z_T_r.dtype).tiny)).astype(z_T_r.dtype)
