"""Map of a batch among all regions: bottleneck features of a round's model, in two dimensions by t-SNE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from nnunet_al.campaign.commits import asked_regions
from nnunet_al.campaign.pool_state import pool_of_round
from nnunet_al.files import read_arrays
from nnunet_al.nnunet.pool_embedding import Embedder
from nnunet_al.pool.table import by_case
from nnunet_al.rounds.candidates import candidate_numbers
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round_model import window_pool
from nnunet_al.scoring.features import bottleneck_features
from nnunet_al.seeding import derive_seed

DRAWN_AT_MOST = 3000
"""Most regions on a map, unless batch and query set alone are more."""

FEWEST = 10
"""Fewest regions of a map."""

ROLES = ("pool", "annotated", "query", "batch")
"""In drawing order; a region has the last role that fits."""


@dataclass(frozen=True)
class Shown:
    """Regions by ascending number, with the index of their role in `ROLES`.

    ``drawn_N`` is true for the regions of the uniform draw from all regions; ``of_role`` maps each role to its number
    of regions, shown or not.
    """

    numbers_N: np.ndarray
    roles_N: np.ndarray
    drawn_N: np.ndarray
    of_role: dict[str, int]


def choose_regions(context: RoundContext, points: int = DRAWN_AT_MOST) -> Shown:
    """Choose the regions of a map: all of the batch and the query set, and a uniform draw from all regions.

    Cases that came to the pool after the round had chosen its batch are left out, as those that were withdrawn are.
    Annotated are regions that the round's model could learn from, whole or asked for; strategies that draw a query set
    have one; the other regions are the pool.
    """
    cases = pool_of_round(context.decided, context.number)
    known = {region: number for number, region in enumerate(context.regions) if region.case in cases}
    role_of = dict.fromkeys(known.values(), "annotated")
    role_of.update((number, "pool") for number in candidate_numbers(context) if number in role_of)
    role_of.update((number, "query") for number in _query_numbers(context) if number in role_of)
    role_of.update((known[region], "batch") for region in asked_regions(context.round) if region in known)
    kept = {number for number, role in role_of.items() if role in ("query", "batch")}
    drawn = set(role_of)
    if len(role_of) > points:
        rng = context.rng("regions of the report's map")
        drawn = set(rng.choice(sorted(role_of), max(points - len(kept), 0), replace=False).tolist())
    numbers = sorted(kept | drawn)
    return Shown(
        np.array(numbers, np.int64),
        np.array([ROLES.index(role_of[number]) for number in numbers], np.int64),
        np.array([number in drawn for number in numbers], bool),
        {role: sum(found == role for found in role_of.values()) for role in ROLES},
    )


def features_of(context: RoundContext, embedder: Embedder, numbers_N: np.ndarray) -> np.ndarray:
    """Return the mean bottleneck features of regions, float32 (N, d), as the strategy ``core_set`` compares them."""
    network, pool = embedder.network, window_pool(context)
    vectors = partial(bottleneck_features, network)
    dimensions = embedder.dimensions(vectors, pool.patch_size, len(context.data.dataset.channels))
    features_N_d = np.zeros((len(numbers_N), dimensions), np.float32)
    row = {number: index for index, number in enumerate(numbers_N.tolist())}
    embedder.embed(pool, by_case(context.regions, numbers_N.tolist()), vectors, 1.0, features_N_d, row)
    return features_N_d


def tsne_map(features_N_d: np.ndarray, seed: int) -> np.ndarray | None:
    """Return t-SNE coordinates (N, 2) of N vectors; None where there are fewer than `FEWEST`, or all are the same.

    By scikit-learn, started from the first two principal components, with perplexity 30 or a third of the regions,
    whichever is less; the same vectors and seed give the same map.
    """
    count, dimensions = features_N_d.shape
    if count < FEWEST or dimensions < 2 or not np.isfinite(features_N_d).all() or not features_N_d.std(0).any():
        return None
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (count - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=derive_seed(seed, "t-SNE"))
    map_N_2: np.ndarray = tsne.fit_transform(features_N_d)
    return map_N_2


def _query_numbers(context: RoundContext) -> Sequence[int]:
    if not context.round.query.is_file():
        return []
    candidates_N = read_arrays(context.round.scores)["numbers_N"]
    numbers: list[int] = candidates_N[read_arrays(context.round.query)["indices_Q"]].tolist()
    return numbers
