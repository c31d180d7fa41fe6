"""The regions with the largest scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_al.selection.ranking_noise import Keys, ranking, unchanged
from nnunet_al.selection.selection import Selection, finite_scores


def top_k(scores_N: np.ndarray, names_N: Sequence[str], budget: int, keys: Keys = unchanged) -> Selection:
    """Select the ``budget`` largest scores, largest first; equal scores in the order of their names.

    ``keys`` maps the scores to the keys that are ranked instead, called once (``ranking_noise``); gains are the scores.
    """
    scores_N = finite_scores(scores_N, len(names_N))
    indices_B = ranking(scores_N, names_N, keys)[: max(budget, 0)]
    return Selection(indices_B, scores_N[indices_B])
