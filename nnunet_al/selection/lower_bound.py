"""A lower bound of squared distances from one matrix product, valid in spite of rounding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_al.selection.distances import squared_to, tiles

# columns of one product: its rounding error grows with them
_BLOCK = 2048


def product_type(embeddings: np.ndarray) -> np.dtype:
    """Return the type for matrix products of these embeddings: float32 for float32, else float64."""
    return np.dtype(np.float32 if embeddings.dtype == np.float32 else np.float64)


def products(rows_K_d: np.ndarray, directions_M_d: np.ndarray) -> np.ndarray:
    """Return x · w for all rows and directions, float64 (K, M), from products of blocks of columns in their own type.

    The error is at most ``product_error(d, type)`` · ‖x‖ ‖w‖, and d · 2^-124 (float32) where products underflow.
    """
    products_K_M = np.zeros((len(rows_K_d), len(directions_M_d)))
    for start in range(0, rows_K_d.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        if len(directions_M_d) == 1:
            products_K_M[:, 0] += rows_K_d[:, block] @ directions_M_d[0, block]
        else:
            products_K_M += rows_K_d[:, block] @ directions_M_d[:, block].T
    return products_K_M


def product_error(dimensions: int, kind: np.dtype) -> float:
    """Return g with ``|products - x · (w in float64)| <= g ‖x‖ ‖w‖``, for any order of the terms.

    A sum of n products in a type of unit roundoff u is off by at most nu / (1 - nu) · Σ |x_i w_i| (Higham, "Accuracy
    and Stability of Numerical Algorithms", 2002, section 3.1), with or without fused multiply-add, for every product
    that is summed conventionally; here n is the number of columns of a block. Another 16 u and the factor 1.01 cover
    the rounding of w to that type, the conversions, and the factor 1 / (1 - nu); the blocks are summed in float64.
    """
    rounding = 1.01 * (min(dimensions, _BLOCK) + 16) * float(np.finfo(kind).eps) / 2
    return rounding + float64_error(dimensions)


def float64_error(dimensions: int) -> float:
    """Return a generous bound of the relative error of sums of squares or products of d float64 numbers."""
    return 8.08 * (dimensions + 16) * float(np.finfo(np.float64).eps) / 2


@dataclass(frozen=True, eq=False)
class Centres:
    """Centres, prepared for a lower bound of the squared distances to them.

    With an anchor m (any fixed point) and x' = x - m, c' = c - m:

        ‖x - c‖² = ‖x'‖² + ‖c'‖² - 2 (x · c' - m · c')

    where x, not x', is multiplied, so that no row has to be changed or copied. ‖x'‖², ‖c'‖² and m · c' are summed in
    float64, x · c' is a product in the embeddings' own type. The bound is

        (1 - ε) (‖x'‖² + ‖c'‖²) - 2 (x · c' - m · c') - 2 ε ‖m‖ ‖c'‖ - τ,   ε = g + 8.08 (d + 16) 2^-53

    with g = ``product_error``. It does not exceed the float64 sum of squared differences of `squared_to`: the error of
    the product is at most g ‖x‖ ‖c'‖ <= g (‖x'‖ + ‖m‖) ‖c'‖, where 2 ‖x'‖ ‖c'‖ <= ‖x'‖² + ‖c'‖²; all rounding errors in
    float64, including those of the sum of squared differences (less than (d + 2) 2^-53 of at most 2 ‖x'‖² + 2 ‖c'‖²),
    are below the second part of ε times the same terms. τ bounds the loss by underflow, also where subnormal numbers
    are flushed to 0; c' is scaled by a power of two to a norm of at most 1, so that products of tiny or huge gradients
    neither underflow nor overflow. Where they still might, the bound is NaN, which excludes no pair.

    The bound is useful where ‖x - c‖² is much larger than ε (‖x'‖² + ‖c'‖² + ‖m‖ ‖c'‖), so for data far from the origin
    the anchor should lie in the middle of the data.

    Attributes
    ----------
    points_M_d : float array (M, d), the centres
    directions_M_d : float32 or float64 array (M, d), c' / scale
    scale_M : float64 array (M,), powers of two
    offset_M : float64 array (M,), all terms of the bound without x
    error : ε
    """

    points_M_d: np.ndarray  # noqa: N815 -- a name carries its shape
    directions_M_d: np.ndarray  # noqa: N815
    scale_M: np.ndarray
    offset_M: np.ndarray
    error: float

    @classmethod
    def of(cls, points_M_d: np.ndarray, anchor_d: np.ndarray, kind: np.dtype) -> Centres:
        """Prepare centres; ``kind`` is the `product_type` of the embeddings, ``anchor_d`` float64."""
        count, dimensions = points_M_d.shape
        prepared = cls.room_for(count, dimensions, points_M_d.dtype, kind)
        for tile in tiles(count, dimensions):
            prepared.put(tile, points_M_d[tile], anchor_d)
        return prepared

    @classmethod
    def room_for(cls, count: int, dimensions: int, stored: np.dtype, kind: np.dtype) -> Centres:
        """Return uninitialised storage for centres, to be filled by `put`."""
        return cls(
            np.empty((count, dimensions), dtype=stored),
            np.empty((count, dimensions), dtype=kind),
            np.empty(count),
            np.empty(count),
            product_error(dimensions, kind) + float64_error(dimensions),
        )

    def put(self, places: slice, points_K_d: np.ndarray, anchor_d: np.ndarray) -> None:
        """Store and prepare centres at these indices."""
        kind, dimensions = self.directions_M_d.dtype, len(anchor_d)
        with np.errstate(all="ignore"):
            shifted_K_d = np.asarray(points_K_d, dtype=np.float64) - anchor_d
            squared_K = below_overflow(squared_to(points_K_d, anchor_d), kind)
            norm_K = norm_above(squared_K, dimensions)
            norm = norm_above(below_overflow(anchor_d @ anchor_d, kind), dimensions)
            exponent_K = np.frexp(np.nan_to_num(norm_K, nan=1.0))[1]
            scale_K = np.ldexp(1.0, exponent_K)
            self.points_M_d[places] = points_K_d
            self.directions_M_d[places] = shifted_K_d / scale_K[:, None]
            self.scale_M[places] = scale_K
            self.offset_M[places] = (
                (1 - self.error) * squared_K
                + 2 * (shifted_K_d @ anchor_d)
                - 2 * self.error * norm * norm_K
                - underflow(scale_K, dimensions, kind)
            )

    def __len__(self) -> int:
        """Number of centres."""
        return len(self.scale_M)

    def __getitem__(self, places: slice) -> Centres:
        """Return a slice of the centres, without a copy."""
        return Centres(
            self.points_M_d[places],
            self.directions_M_d[places],
            self.scale_M[places],
            self.offset_M[places],
            self.error,
        )

    def lower(self, rows_K_d: np.ndarray, away_K: np.ndarray) -> np.ndarray:
        """Return the bound for all rows and centres, float64 (K, M); NaN where it is unknown.

        ``away_K`` are the rows' squared distances to the anchor by `squared_to`, float64.
        """
        with np.errstate(all="ignore"):
            lower_K_M = products(np.asarray(rows_K_d, dtype=self.directions_M_d.dtype), self.directions_M_d)
            lower_K_M *= -2 * self.scale_M
            lower_K_M += self.offset_M
            lower_K_M += (1 - self.error) * below_overflow(away_K, self.directions_M_d.dtype)[:, None]
        return lower_K_M


def norm_above(squared: np.ndarray, dimensions: int) -> np.ndarray:
    """Return an upper bound of a norm, valid also where squares of components underflowed."""
    above: np.ndarray = np.sqrt(squared + dimensions * 2.0**-1021)
    return above


def below_overflow(squared: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Return squared norms, with NaN for vectors whose products might overflow in type ``kind``."""
    return np.where(squared < (2.0**252 if kind == np.float32 else 2.0**900), squared, np.nan)


def underflow(scale_M: np.ndarray, dimensions: int, kind: np.dtype) -> np.ndarray:
    """Return τ: a bound of the loss by underflow in products with directions of these scales and in float64 squares."""
    lost: np.ndarray = 16 * dimensions * (scale_M * float(np.finfo(kind).tiny) + 2.0**-1020)
    return lost
