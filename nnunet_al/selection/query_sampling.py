"""A batch drawn from the query set only: the baseline to measure the effect of FLQMI (USIM, appendix E)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_al.selection.query import QuerySet
from nnunet_al.selection.ranking_noise import ranking
from nnunet_al.selection.selection import Selection, finite_scores, rank_by_name


def query_sampling(
    query: QuerySet, scores_N: np.ndarray, names_N: Sequence[str], budget: int, rng: np.random.Generator
) -> Selection:
    """Draw ``budget`` unique regions uniformly from the draws of the query set (Föllmer et al. 2024, appendix E).

    The draws are permuted and the first unique regions taken, so that a region that was drawn twice is twice as likely
    to be the next one, and with the same generator a smaller batch is the beginning of a larger one.

    ``query`` was drawn with replacement in proportion to the uncertainty (``query.draw_query``). If it has too few
    regions, the other regions with the largest scores fill the batch.

    Returns
    -------
    Selection
        the drawn regions, then those that fill the batch; gains are the scores.
    """
    scores_N = finite_scores(scores_N, len(names_N))
    wanted = min(max(budget, 0), len(scores_N))
    by_name_Q = np.argsort(rank_by_name(names_N)[query.indices_Q])
    draws = np.repeat(query.indices_Q[by_name_Q], query.multiplicities_Q[by_name_Q])
    draws = draws[rng.permutation(len(draws))]
    drawn = draws[np.sort(np.unique(draws, return_index=True)[1])][:wanted]
    ranked_N = ranking(scores_N, names_N)
    others = ranked_N[~np.isin(ranked_N, drawn)][: wanted - len(drawn)]
    indices_B = np.concatenate([drawn, others])
    return Selection(indices_B, scores_N[indices_B])
