"""The similarity of the pool to a query set, from gradient embeddings."""

from __future__ import annotations

import numpy as np

_TILE_ROWS = 512


def similarity_kernel(embeddings_N_d: np.ndarray, order_M: np.ndarray, query_Q: np.ndarray, cosine: bool) -> np.ndarray:
    """Return S_uq = g_u · g_q, or its cosine, as float32 (M, Q).

    Parameters
    ----------
    embeddings_N_d : float array (N, d)
        one embedding for each region; it may be mapped from disk, for it is read in tiles of rows.
    order_M : int array (M,)
        rows of the kernel as indices into the embeddings.
    query_Q : int array (Q,)
        columns of the kernel as indices into the embeddings.
    cosine : bool
        divide by the norms (USIMC, equation 2 of Föllmer et al. 2024); a zero embedding is similar to nothing: 0.
        Without, the plain inner product (USIMF, equation 4, for embeddings scaled by (F + λ)^-1/2).
    """
    queries_d_Q = np.ascontiguousarray(_rows(embeddings_N_d, query_Q, cosine).T)
    kernel_M_Q = np.empty((len(order_M), len(query_Q)), dtype=np.float32)
    for start in range(0, len(order_M), _TILE_ROWS):
        tile = slice(start, start + _TILE_ROWS)
        np.matmul(_rows(embeddings_N_d, order_M[tile], cosine), queries_d_Q, out=kernel_M_Q[tile])
    assert np.isfinite(kernel_M_Q).all(), "a similarity is not finite"
    return kernel_M_Q


def _rows(embeddings_N_d: np.ndarray, indices: np.ndarray, cosine: bool) -> np.ndarray:
    rows = np.asarray(embeddings_N_d[indices], dtype=np.float32)
    if not cosine:
        return rows
    # float64, because the square of a small gradient vanishes in float32
    norms = np.sqrt(np.einsum("id,id->i", rows, rows, dtype=np.float64))
    norms[norms == 0] = 1
    return (rows / norms[:, None]).astype(np.float32)
