"""k-means++ seeding as a selection: centres drawn with probability proportional to the squared distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_al.selection.distances import squared_to
from nnunet_al.selection.lower_bound import Centres, product_type
from nnunet_al.selection.nearest import update_nearest
from nnunet_al.selection.selection import Selection, order_by_name
from nnunet_al.selection.sketch import Sketch, sketch_of

FIRST_CENTRES = ("largest_norm", "uniform")
# with fewer centres, the draws take less time than the sketch
_FEWEST_CENTRES = 12
# beyond this share of the pool, reading all rows is faster than reading single rows
_DENSE = 0.5


def kmeans_plusplus(
    embeddings_N_d: np.ndarray,
    names_N: Sequence[str],
    budget: int,
    rng: np.random.Generator,
    first: str = "largest_norm",
) -> Selection:
    """Draw ``budget`` centres one after the other, each with p(r) = D(r)² / Σ D².

    D is the Euclidean distance to the nearest centre drawn so far (Arthur and Vassilvitskii, "k-means++: The Advantages
    of Careful Seeding", 2007; one draw per step, without the local trials of later versions). On gradient embeddings it
    is BADGE (Ash et al., ICLR 2020).

    Every D² is the sum of squared differences in float64 of `squared_to`. The pool is read once for the distances to an
    anchor (with a sketch where rows are long) and once for the first centre; then, for each centre, only the rows are
    read that the sketch does not exclude, and a matrix product in the embeddings' own type excludes most of these.
    Memory besides the embeddings: less than 200 MB, and about 400 bytes per region (more for float64).

    The first centre has the largest Euclidean norm, ties to the earlier name (BADGE's released code), or is a uniform
    draw (the original method). With the same state of ``rng``, a smaller batch is the beginning of a larger one.

    Returns
    -------
    Selection
        gains are D at the time of choice; for the first centre its norm with ``"largest_norm"``, else 0. Where all
        remaining regions equal a centre (D = 0), the next one is drawn uniformly from them.
    """
    assert first in FIRST_CENTRES, first
    order_N = order_by_name(names_N)
    assert embeddings_N_d.shape[0] == len(order_N)
    wanted = min(max(budget, 0), len(order_N))
    if wanted == 0:
        return Selection(np.zeros(0), np.zeros(0))

    if first == "uniform":
        index, gain = int(rng.choice(order_N)), 0.0
        if wanted == 1:
            return Selection(np.array([index]), np.array([gain]))
        pool = _Pool.around(embeddings_N_d, np.asarray(embeddings_N_d[index], dtype=np.float64), wanted)
        squared_N = pool.away_N.copy()
    else:
        pool = _Pool.around(embeddings_N_d, np.zeros(embeddings_N_d.shape[1]), wanted)
        index = int(order_N[pool.away_N[order_N].argmax()])
        gain = float(np.sqrt(pool.away_N[index]))
        squared_N = squared_to(embeddings_N_d, embeddings_N_d[index]) if wanted > 1 else pool.away_N

    picked, worth = [index], [gain]
    while len(picked) < wanted:
        if len(picked) > 1:
            pool.add_centre(index, squared_N)
        assert np.isfinite(squared_N).all(), "an embedding is not finite"
        index = int(_draw(order_N, squared_N, picked, rng))
        picked.append(index)
        worth.append(float(np.sqrt(squared_N[index])))
    return Selection(np.array(picked), np.array(worth))


@dataclass(frozen=True, eq=False)
class _Pool:
    """The embeddings, and a sketch that excludes cheaply those to which a new centre cannot be nearer."""

    embeddings_N_d: np.ndarray
    anchor_d: np.ndarray
    away_N: np.ndarray
    sketch: Sketch | None

    @classmethod
    def around(cls, embeddings_N_d: np.ndarray, anchor_d: np.ndarray, centres: int) -> _Pool:
        sketch = sketch_of(embeddings_N_d, anchor_d) if centres >= _FEWEST_CENTRES else None
        away_N = squared_to(embeddings_N_d, anchor_d) if sketch is None else sketch.away_N
        assert np.isfinite(away_N).all(), "an embedding is not finite"
        return cls(embeddings_N_d, anchor_d, away_N, sketch)

    def add_centre(self, index: int, squared_N: np.ndarray) -> None:
        """Update the squared distances by a new centre."""
        rows_K = None if self.sketch is None else self.sketch.open_to(index, squared_N)
        if rows_K is not None and len(rows_K) > _DENSE * len(squared_N):
            rows_K = None
        point_1_d = np.asarray(self.embeddings_N_d[index : index + 1])
        centre = Centres.of(point_1_d, self.anchor_d, product_type(self.embeddings_N_d))
        update_nearest(squared_N, self.embeddings_N_d, centre, self.anchor_d, rows_K, self.away_N)


def _draw(order_N: np.ndarray, squared_N: np.ndarray, picked: list[int], rng: np.random.Generator) -> np.integer:
    largest = squared_N.max()
    if largest == 0:
        return rng.choice(order_N[~np.isin(order_N, picked)])
    p_N = squared_N[order_N] / largest  # so that squares of tiny gradients keep their precision
    return rng.choice(order_N, p=p_N / p_N.sum())
