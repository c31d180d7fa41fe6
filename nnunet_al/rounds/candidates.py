"""The regions that may be asked for, with the scores and the vectors that the passes over the pool found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nnunet_al.files import read_arrays
from nnunet_al.pool.boxes import Region
from nnunet_al.rounds.composed import measures
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.groups import weighted
from nnunet_al.seeding import derive_seed
from nnunet_al.selection.query import QuerySet
from nnunet_al.selection.random_draw import stratified_draw
from nnunet_al.strategies.select import Candidates


def candidate_numbers(context: RoundContext) -> list[int]:
    """Return the regions that may be asked for: those that are not annotated in full and were not asked for before.

    A region can have been answered and yet hold voxels that its reader left out on purpose. Cases that were withdrawn
    have no regions to ask for.
    """
    complete = {number for record in measures(context).values() for number in record["complete"]}
    pool, answered = set(context.decided.pool_cases), context.annotated_regions
    return [
        number
        for number, region in enumerate(context.regions)
        if number not in complete and region not in answered and region.case in pool
    ]


def scored_numbers(context: RoundContext) -> list[int]:
    """Return the candidates that a round scores: all, or with ``-candidates`` a part that is drawn anew in each round.

    Each shard of a pass draws the same ones; ``scores.npz`` names them.
    """
    numbers, wanted = candidate_numbers(context), context.decided.candidates
    if wanted is None or len(numbers) <= wanted:
        return numbers
    regions = [context.regions[number] for number in numbers]
    names, cases = [region.name for region in regions], [region.case for region in regions]
    drawn = stratified_draw(names, cases, wanted, context.rng("candidates"))
    return [numbers[index] for index in drawn.tolist()]


def read_scores(context: RoundContext) -> tuple[Candidates, np.ndarray]:
    """Return the candidates with all that the scoring pass found out, and their region numbers in the same order.

    Where the strategy weights groups, the scores are weighted: all that is chosen or drawn by them follows the weights.
    """
    arrays: dict[str, Any] = dict(read_arrays(context.round.scores))
    numbers_N, foreground_N = arrays.pop("numbers_N"), arrays.pop("foreground_N")
    regions = [context.regions[number] for number in numbers_N]
    cases_N = [region.case for region in regions]
    candidates = Candidates(tie_names(context, regions), cases_N=cases_N, foreground_voxels_N=foreground_N, **arrays)
    return (weighted(context, candidates) if context.decided.recipe.weighting else candidates), numbers_N


def tie_names(context: RoundContext, regions: Sequence[Region]) -> list[str]:
    """Return names of the regions whose alphabetical order is drawn by campaign and round.

    Selectors put equal scores in the order of the names. Of the regions' own names neighbours follow each other, so
    that equal scores would fill a batch with the slices of one case. A name's place depends on no other region.
    """
    names_N = [region.name for region in regions]
    if context.decided.ties == "names":
        return names_N
    seed, number = context.decided.seed, context.number
    return [f"{derive_seed(seed, number, 'ties', name):08x} {name}" for name in names_N]


def with_places(context: RoundContext, candidates: Candidates, numbers_N: np.ndarray) -> Candidates:
    """Return the candidates, which are the regions ``numbers_N``, with their places and those of all annotated ones."""
    case_place = {case: place for place, case in enumerate(sorted(context.decided.pool_cases))}
    pool = {number for number, region in enumerate(context.regions) if region.case in case_place}
    taken = sorted(pool.difference(candidate_numbers(context)))

    def places(numbers: Sequence[int]) -> np.ndarray:
        pairs = [(case_place[context.regions[number].case], number) for number in numbers]
        return np.array(pairs, np.int64).reshape(-1, 2)

    return replace(candidates, places_N_2=places(numbers_N.tolist()), taken_M_2=places(taken))


def embedded_numbers(context: RoundContext) -> list[int]:
    """Return the regions that have vectors: the candidates, then, where the selector looks at them, the annotated."""
    candidates = read_arrays(context.round.scores)["numbers_N"].tolist()
    if not candidates or not context.decided.recipe.needs.references:
        return candidates
    pool = set(context.decided.pool_cases)
    everything = {number for number, region in enumerate(context.regions) if region.case in pool}
    to_ask_for = candidates if context.decided.candidates is None else candidate_numbers(context)
    return [*candidates, *sorted(everything.difference(to_ask_for))]


def with_embeddings(context: RoundContext, candidates: Candidates) -> Candidates:
    """Return the candidates with their vectors, those of the annotated regions, and the query set if it was drawn."""
    embeddings_M_d = np.load(context.round.embeddings, mmap_mode="r")
    count = len(candidates.names_N)
    return replace(
        candidates,
        embeddings_N_d=embeddings_M_d[:count],
        references_M_d=embeddings_M_d[count:] if context.decided.recipe.needs.references else None,
        query=QuerySet(**read_arrays(context.round.query)) if context.round.query.is_file() else None,
    )
