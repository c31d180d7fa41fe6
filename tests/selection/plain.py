"""Distances, k-centre and k-means++ as they are written down: every centre goes through the whole pool."""

from __future__ import annotations

import numpy as np

from nnunet_al.selection.selection import order_by_name

TILE_ELEMENTS = 1 << 16


def nearest_squared(embeddings_N_d: np.ndarray, centres_M_d: np.ndarray) -> np.ndarray:
    count, dimensions = embeddings_N_d.shape
    squared_N = np.full(count, np.inf)
    tile = max(1, TILE_ELEMENTS // max(dimensions, 1))
    differences = np.empty((min(tile, count), dimensions))
    for start in range(0, count, tile):
        rows = np.asarray(embeddings_N_d[start : start + tile], dtype=np.float64)
        terms, nearest = differences[: len(rows)], squared_N[start : start + tile]
        for centre_d in centres_M_d:
            np.subtract(rows, np.asarray(centre_d, dtype=np.float64), out=terms)
            np.square(terms, out=terms)
            np.minimum(nearest, terms.sum(axis=1), out=nearest)
    return squared_N


def k_center(embeddings_N_d, names_N, budget, references_M_d=None) -> tuple[list[int], list[float]]:
    order_N = order_by_name(names_N)
    squared_N = nearest_squared(embeddings_N_d, embeddings_N_d[:0] if references_M_d is None else references_M_d)
    picked, gains = [], []
    while len(picked) < budget:
        open_N = squared_N[order_N]
        open_N[np.isin(order_N, picked)] = -1
        index = int(order_N[open_N.argmax()])
        picked.append(index)
        gains.append(float(np.sqrt(squared_N[index])) if np.isfinite(squared_N[index]) else 0.0)
        np.minimum(squared_N, nearest_squared(embeddings_N_d, embeddings_N_d[index : index + 1]), out=squared_N)
    return picked, gains


def kmeans_plusplus(embeddings_N_d, names_N, budget, rng, first) -> tuple[list[int], list[float]]:
    order_N = order_by_name(names_N)
    if first == "uniform":
        picked, gains = [int(rng.choice(order_N))], [0.0]
    else:
        norms_N = nearest_squared(embeddings_N_d, np.zeros((1, embeddings_N_d.shape[1])))
        picked = [int(order_N[norms_N[order_N].argmax()])]
        gains = [float(np.sqrt(norms_N[picked[0]]))]
    squared_N = np.full(len(order_N), np.inf)
    while len(picked) < budget:
        last_1_d = embeddings_N_d[picked[-1] : picked[-1] + 1]
        np.minimum(squared_N, nearest_squared(embeddings_N_d, last_1_d), out=squared_N)
        if squared_N.max() == 0:
            picked.append(int(rng.choice(order_N[~np.isin(order_N, picked)])))
        else:
            p_N = squared_N[order_N] / squared_N.max()
            picked.append(int(rng.choice(order_N, p=p_N / p_N.sum())))
        gains.append(float(np.sqrt(squared_N[picked[-1]])))
    return picked, gains
