"""The candidates of a batch with their scores and embeddings, and the round in which it is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_al.selection.query import QuerySet

# a generator for each purpose, for example functools.partial(seeding.generator, seed, round_number)
Generators = Callable[[str], np.random.Generator]


@dataclass(frozen=True, eq=False)
class Candidates:
    """The regions that may be chosen, in any order, with the results of the recipe's phases.

    Attributes
    ----------
    names_N : sequence of str
        unique names.
    scores_N : float array (N,), optional
        finite; larger is more informative.
    foreground_voxels_N : array (N,), optional
        predicted foreground voxels.
    embeddings_N_d : float array (N, d), optional
        gradients or features; for the Fisher kernel already scaled by (F + λ)^-1/2. May be mapped from disk.
    query : QuerySet, optional
        as ``draw_query_for`` returned it for the same regions in the same order; drawn again if it is missing.
    target_scores_N, boundary_scores_N : float array (N,), optional
        sums (or means) of the map over likely foreground and over the predicted boundary; NaN where there is none.
    mean_scores_N : float array (N,), optional
        means of the map over the region.
    class_scores_N_C : float array (N, C), optional
        one score for each foreground class.
    cases_N : sequence of str, optional
        the case of each region.
    references_M_d : float array (M, d), optional
        embeddings of the annotated regions; None if there are none.
    places_N_2, taken_M_2 : int arrays (N, 2) and (M, 2), optional
        where each candidate, and each annotated region of the pool, stands: the place of its case among the cases, and
        its own among the regions.
    """

    names_N: Sequence[str]
    scores_N: np.ndarray | None = None
    foreground_voxels_N: np.ndarray | None = None
    embeddings_N_d: np.ndarray | None = None
    query: QuerySet | None = None
    target_scores_N: np.ndarray | None = None
    boundary_scores_N: np.ndarray | None = None
    mean_scores_N: np.ndarray | None = None
    class_scores_N_C: np.ndarray | None = None
    cases_N: Sequence[str] | None = None
    references_M_d: np.ndarray | None = None  # noqa: N815 -- a name carries its shape
    places_N_2: np.ndarray | None = None
    taken_M_2: np.ndarray | None = None  # noqa: N815


@dataclass(frozen=True)
class Moment:
    """When a batch is chosen: schedules stand at step ``round`` - 1 of ``planned`` steps, and stay at the last one."""

    round: int = 1
    planned: int = 10


FIRST_ROUND = Moment()
