"""Rank correlation of a model's uncertainty about regions with its error in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nnunet_al.nnunet.model import Plan
from nnunet_al.nnunet.pool_scoring import Measure, Scorer
from nnunet_al.pool.table import by_case
from nnunet_al.report.evidence.record import BatchRegion
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round_model import window_pool
from nnunet_al.scoring.maps import entropy
from nnunet_al.scoring.reductions import Mean
from nnunet_al.scoring.samplers import DeterministicSampler

FEWEST = 3
"""Fewest regions of a correlation."""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation ``rho`` of n pairs; None where it is not defined, with the reason in ``why``."""

    rho: float | None
    n: int
    why: str = ""


def mean_entropies(
    context: RoundContext, plan: Plan, network: torch.nn.Module, device: torch.device, numbers: Sequence[int]
) -> dict[int, float]:
    """Return the mean predictive entropy (nats) of regions by their numbers, as the strategy ``entropy`` scores them.

    One pass without dropout, H(p) = -Σ_c p_c ln p_c, averaged over the region's voxels; where classes overlap, the sum
    of the entropies of all heads. ``network`` is one that `fast_network` arranged in float32.
    """
    if not numbers:
        return {}
    scorer = Scorer(
        DeterministicSampler(network, plan.exclusive),
        plan.exclusive,
        {"entropy": Measure(entropy, Mean(), "entropy")},
        device,
        context.options.scoring_batch_size,
        context.options.workers,
    )
    found = scorer.run(window_pool(context), by_case(context.regions, numbers))
    return dict(zip(found.numbers_N.tolist(), Mean().finish(found.stats["entropy"]).tolist(), strict=True))


def rank_correlation(x_N: Sequence[float | None], y_N: Sequence[float | None]) -> Correlation:
    """Return Spearman's rho of the pairs whose two values are known."""
    pairs = [(x, y) for x, y in zip(x_N, y_N, strict=True) if x is not None and y is not None]
    if len(pairs) < FEWEST:
        return Correlation(None, len(pairs), f"fewer than {FEWEST} regions")
    known_N_2 = np.array(pairs, float)
    if (np.ptp(known_N_2, axis=0) == 0).any():
        return Correlation(None, len(pairs), "all values are the same")
    from scipy.stats import spearmanr

    return Correlation(float(spearmanr(known_N_2[:, 0], known_N_2[:, 1]).statistic), len(pairs))


def correlation(regions: Sequence[BatchRegion], error: str = "error", uncertainty: str = "entropy") -> Correlation:
    """Return the rank correlation of the regions' entropies with their errors, or of other fields of `BatchRegion`."""
    return rank_correlation([getattr(one, uncertainty) for one in regions], [getattr(one, error) for one in regions])
