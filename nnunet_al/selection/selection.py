"""The result of every selector, and the order by names that makes it independent of the pool's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Selection:
    """A batch in the order in which its regions were chosen, with the gain of each choice.

    ``indices_B`` are int64 positions in the pool that was passed to the selector, each at most once. A gain (float64)
    is the selector's value of a choice: a score, a marginal gain, or 0 for a uniform draw.
    """

    indices_B: np.ndarray
    gains_B: np.ndarray

    def __post_init__(self) -> None:
        """Convert both arrays to their types and check that they describe a batch."""
        object.__setattr__(self, "indices_B", np.asarray(self.indices_B, dtype=np.int64).reshape(-1))
        object.__setattr__(self, "gains_B", np.asarray(self.gains_B, dtype=np.float64).reshape(-1))
        assert self.indices_B.shape == self.gains_B.shape, "there is not one gain for each region"
        assert len(np.unique(self.indices_B)) == len(self.indices_B), "a region was selected twice"
        assert np.isfinite(self.gains_B).all(), "a gain is not finite"

    def __len__(self) -> int:
        """Number of selected regions."""
        return len(self.indices_B)


def order_by_name(names_N: Sequence[str]) -> np.ndarray:
    """Return the int64 indices (N,) that sort the pool by the names of its regions, which are unique."""
    assert len(set(names_N)) == len(names_N), "two regions of the pool have the same name"
    return np.array(sorted(range(len(names_N)), key=names_N.__getitem__), dtype=np.int64)


def rank_by_name(names_N: Sequence[str]) -> np.ndarray:
    """Return each region's int64 position (N,) in the pool sorted by names."""
    order_N = order_by_name(names_N)
    rank_N = np.empty_like(order_N)
    rank_N[order_N] = np.arange(len(order_N))
    return rank_N


def finite_scores(scores_N: np.ndarray, count: int) -> np.ndarray:
    """Return the scores as float64 (N,) and assert that there is one finite number per region."""
    scores_N = np.asarray(scores_N, dtype=np.float64)
    assert scores_N.shape == (count,), f"{scores_N.shape} scores for {count} regions"
    assert np.isfinite(scores_N).all(), "a score is not finite"
    return scores_N
