"""USIM's query set: number and draw of uncertain regions (Föllmer et al. 2024, Algorithm 1 and appendix D)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_al.selection.selection import finite_scores, order_by_name
from nnunet_al.selection.top_k import top_k

_LOGGER = logging.getLogger(__name__)

QUERY_MODES = ("uncertainty", "uniform", "max")

# the paper says only "elbow method"; its query set sizes are consistent with Kneedle at this sensitivity
_KNEEDLE_SENSITIVITY = 10.0
_FLOOR_IN_BUDGETS = 5


@dataclass(frozen=True, eq=False)
class QuerySet:
    """Regions drawn with replacement, kept as unique regions with their multiplicities: number of draws, at least 1.

    ``indices_Q`` are positions in the pool, in the order of the regions' names; both arrays are int64 (Q,).
    """

    indices_Q: np.ndarray
    multiplicities_Q: np.ndarray

    def __post_init__(self) -> None:
        """Convert both arrays to int64 and check that they describe a query set."""
        for name in ("indices_Q", "multiplicities_Q"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int64).reshape(-1))
        assert self.indices_Q.shape == self.multiplicities_Q.shape
        assert len(np.unique(self.indices_Q)) == len(self.indices_Q)
        assert (self.multiplicities_Q >= 1).all()

    def __len__(self) -> int:
        """Number of unique regions."""
        return len(self.indices_Q)

    @property
    def draws(self) -> int:
        """Number of draws: the size of the query set, repetitions included."""
        return int(self.multiplicities_Q.sum())


def query_size(scores_N: np.ndarray, budget: int) -> int:
    """Return Q: the elbow of the descending scores, at least 5 budgets, at most the pool.

    The elbow is Kneedle's (Satopää et al. 2011) with S = 10 on a convex, decreasing curve, counted from 1. Where there
    is none, as for constant scores, Q is 5 budgets.
    """
    scores_N = finite_scores(scores_N, len(scores_N))
    floor = _FLOOR_IN_BUDGETS * max(budget, 0)
    return min(max(_elbow(np.sort(scores_N)[::-1]), floor), len(scores_N))


def draw_query(
    scores_N: np.ndarray,
    names_N: Sequence[str],
    budget: int,
    rng: np.random.Generator,
    size: int | None = None,
    mode: str = "uncertainty",
) -> QuerySet:
    """Draw the query set X_Q.

    Parameters
    ----------
    scores_N, names_N, budget, rng
        as in all selectors; the scores are uncertainties u, not negative.
    size : int, optional
        number of draws; by default ``query_size``.
    mode : {"uncertainty", "uniform", "max"}
        draw with replacement and p(r) = u(r) / Σ u (the method); with replacement and equal p; or take the ``size``
        most uncertain regions once each (the last two from appendix D).

    Returns
    -------
    QuerySet
        where every score is 0, p is uniform and a warning is logged.
    """
    assert mode in QUERY_MODES, mode
    count = len(names_N)
    scores_N = finite_scores(scores_N, count)
    assert (scores_N >= 0).all(), "an uncertainty is negative"
    draws = query_size(scores_N, budget) if size is None else size
    order_N = order_by_name(names_N)
    if count == 0 or draws == 0:
        return QuerySet(np.zeros(0), np.zeros(0))

    times_N = np.zeros(count, dtype=np.int64)  # in the order of the names
    if mode == "max":
        times_N[np.isin(order_N, top_k(scores_N, names_N, draws).indices_B)] = 1
    else:
        p_N = _uniform(count) if mode == "uniform" else _proportional(scores_N[order_N])
        times_N += np.bincount(rng.choice(count, size=draws, replace=True, p=p_N), minlength=count)
    drawn_Q = np.flatnonzero(times_N)
    return QuerySet(order_N[drawn_Q], times_N[drawn_Q])


def _elbow(descending_N: np.ndarray) -> int:
    # fewer than three points or equal scores have no elbow, and Kneedle would divide by their range
    if len(descending_N) < 3 or descending_N[0] == descending_N[-1]:
        return 0
    from kneed import KneeLocator  # here, because it imports matplotlib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of kneed warn where there is no elbow
        positions_N = np.arange(1, len(descending_N) + 1)
        knee = KneeLocator(
            positions_N, descending_N, S=_KNEEDLE_SENSITIVITY, curve="convex", direction="decreasing"
        ).knee
    return 0 if knee is None else int(knee)


def _proportional(scores_N: np.ndarray) -> np.ndarray:
    largest = scores_N.max()
    if largest == 0:
        _LOGGER.warning("Every region has uncertainty 0: the query set is drawn uniformly.")
        return _uniform(len(scores_N))
    scaled_N = scores_N / largest  # so that a sum of denormal numbers keeps its precision
    return scaled_N / scaled_N.sum()


def _uniform(count: int) -> np.ndarray:
    return np.full(count, 1 / count)
