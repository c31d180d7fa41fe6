"""k-means++ seeding as a selection: centres drawn with a chance that grows with the squared distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_al.selection.nearest import nearest_squared
from nnunet_al.selection.selection import Selection, order_by_name

FIRST_CENTRES = ("largest_norm", "uniform")


def kmeans_plusplus(
    embeddings_N_d: np.ndarray,
    names_N: Sequence[str],
    budget: int,
    rng: np.random.Generator,
    first: str = "largest_norm",
) -> Selection:
    """Draw ``budget`` centres one after the other, each with p(r) = D(r)² / Σ D².

    D is the Euclidean distance to the nearest centre drawn so far (Arthur and Vassilvitskii, "k-means++: The
    Advantages of Careful Seeding", 2007; one draw a step, without the local trials of later versions). On gradient
    embeddings it is BADGE (Ash et al., ICLR 2020).

    Parameters
    ----------
    embeddings_N_d : float array (N, d)
        finite; may be mapped from disk.
    names_N : sequence of str
        unique names; draws are over the pool sorted by them.
    budget : int
        number of regions asked for; a pool that holds fewer is returned whole.
    rng : numpy generator
        the only source of chance; with the same state a smaller batch begins a larger one.
    first : {"largest_norm", "uniform"}
        the first centre: the largest Euclidean norm, ties to the earlier name (BADGE's released code); or a uniform
        draw (the method's own).

    Returns
    -------
    Selection
        gains are D at the time of choice; of the first centre its norm with ``"largest_norm"``, else 0. Where all
        that remain equal a centre, D = 0, the next one is drawn uniformly from them.
    """
    assert first in FIRST_CENTRES, first
    order_N = order_by_name(names_N)
    assert embeddings_N_d.shape[0] == len(order_N)
    wanted = min(max(budget, 0), len(order_N))
    if wanted == 0:
        return Selection(np.zeros(0), np.zeros(0))

    index, gain = _first_centre(embeddings_N_d, order_N, rng, first)
    picked, worth = [index], [gain]
    squared_N = np.full(len(order_N), np.inf)
    while len(picked) < wanted:
        np.minimum(squared_N, nearest_squared(embeddings_N_d, embeddings_N_d[index : index + 1]), out=squared_N)
        index = int(_draw(order_N, squared_N, picked, rng))
        picked.append(index)
        worth.append(float(np.sqrt(squared_N[index])))
    return Selection(np.array(picked), np.array(worth))


def _first_centre(
    embeddings_N_d: np.ndarray, order_N: np.ndarray, rng: np.random.Generator, first: str
) -> tuple[int, float]:
    if first == "uniform":
        return int(rng.choice(order_N)), 0.0
    squared_N = nearest_squared(embeddings_N_d, np.zeros((1, embeddings_N_d.shape[1])))
    index = int(order_N[squared_N[order_N].argmax()])
    return index, float(np.sqrt(squared_N[index]))


def _draw(order_N: np.ndarray, squared_N: np.ndarray, picked: list[int], rng: np.random.Generator) -> np.integer:
    largest = squared_N.max()
    if largest == 0:
        return rng.choice(order_N[~np.isin(order_N, picked)])
    p_N = squared_N[order_N] / largest  # so that squares of tiny gradients keep their precision
    return rng.choice(order_N, p=p_N / p_N.sum())
