"""The stage of round 0 that chooses a batch without any model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nnunet_al.nnunet.label_io import LabelFormat
from nnunet_al.nnunet.workers import run_jobs
from nnunet_al.pool.boxes import Box
from nnunet_al.pool.table import by_case
from nnunet_al.rounds.batch import write_batch
from nnunet_al.rounds.candidates import tie_names
from nnunet_al.rounds.context import RoundContext
from nnunet_al.scoring.image_features import image_features, standardise
from nnunet_al.selection.k_center import k_center
from nnunet_al.selection.random_draw import random_draw
from nnunet_al.selection.selection import order_by_name
from nnunet_al.terminal import say

Scores = list[float | None]
Choice = Callable[[np.ndarray, int, np.random.Generator], tuple[np.ndarray, Scores]]
"""From region numbers, how many of them are wanted, and a generator, to the chosen numbers and their scores."""


def select_initial(context: RoundContext) -> None:
    """Choose the initial batch; the same one for every strategy of a seed."""
    decided = context.decided
    if decided.starts_from == "dataset":
        write_batch(context, np.zeros(0, np.int64), [])
        return
    pool = set(decided.pool_cases)
    numbers_N = np.array([n for n, region in enumerate(context.regions) if region.case in pool], np.int64)
    if len(numbers_N) < decided.initial:
        say(f"    the pool holds {len(numbers_N)} regions, fewer than the {decided.initial} asked for: all are taken")
    choose = _spread_out(context, numbers_N) if decided.initial_strategy == "core_set" else _at_random(context)
    if not decided.initial_groups:
        write_batch(context, *choose(numbers_N, decided.initial, context.rng("initial batch")))
        return
    chosen, scores = [np.zeros(0, np.int64)], []
    for group, wanted in sorted(decided.initial_groups.items()):
        member_N = np.array([decided.groups[context.regions[n].case] == group for n in numbers_N], bool)
        numbers_B, scores_B = choose(numbers_N[member_N], wanted, context.rng(f"initial batch of {group}"))
        chosen.append(numbers_B)
        scores += scores_B
    write_batch(context, np.concatenate(chosen), scores)


def _at_random(context: RoundContext) -> Choice:
    def choose(numbers_N: np.ndarray, wanted: int, rng: np.random.Generator) -> tuple[np.ndarray, Scores]:
        names_N = [context.regions[number].name for number in numbers_N]
        numbers_B = numbers_N[random_draw(names_N, wanted, rng).indices_B]
        return numbers_B, [None] * len(numbers_B)

    return choose


def _spread_out(context: RoundContext, numbers_N: np.ndarray) -> Choice:
    """Prepare a core-set by image features, which are compared over the whole pool.

    Its first region is drawn, because k-center has to begin somewhere and the first by name would be the same one in
    every seed; each further one is the farthest from those before, and its score is that distance.
    """
    features_N_d = pool_features(context, numbers_N)
    row = {number: index for index, number in enumerate(numbers_N.tolist())}

    def choose(numbers_M: np.ndarray, wanted: int, rng: np.random.Generator) -> tuple[np.ndarray, Scores]:
        names_M = tie_names(context, [context.regions[number] for number in numbers_M])
        first = random_draw(names_M, min(wanted, 1), rng).indices_B
        rest = np.setdiff1d(np.arange(len(numbers_M)), first)
        chosen = k_center(
            features_N_d[[row[number] for number in numbers_M[rest].tolist()]],
            [names_M[index] for index in rest],
            wanted - len(first),
            features_N_d[[row[number] for number in numbers_M[first].tolist()]],
        )
        numbers_B = numbers_M[np.concatenate([first, rest[chosen.indices_B]])]
        return numbers_B, [0.0] * len(first) + chosen.gains_B.tolist()

    return choose


def pool_features(context: RoundContext, numbers_N: np.ndarray) -> np.ndarray:
    """Return image features (N, d) of the regions with these numbers, standardised over them; one pass over the cases.

    Neither the order of the numbers nor that of the cases, nor the number of workers, changes any of them.
    """
    groups = by_case(context.regions, numbers_N.tolist())
    jobs, sizes = [], []
    for case, numbers in groups.items():
        facts, files = context.data.facts[case], context.data.dataset.cases[case]
        boxes = [context.regions[number].box for number in numbers]
        jobs.append((context.label_format, files.images, facts.spacing_mm, boxes))
        sizes.append(10 * len(files.images) * math.prod(facts.raw_shape))
    parts = run_jobs(case_features, jobs, context.options.workers, "features of the images", voxels=sizes)
    found = {
        number: row_d
        for numbers, features_N_d in zip(groups.values(), parts, strict=True)
        for number, row_d in zip(numbers, features_N_d, strict=True)
    }
    order_N = order_by_name([context.regions[number].name for number in numbers_N])
    standardised_N_d = standardise(np.array([found[number] for number in numbers_N[order_N].tolist()]))
    back_N_d = np.empty_like(standardised_N_d)
    back_N_d[order_N] = standardised_N_d
    return back_N_d


def case_features(
    label_format: LabelFormat, images: tuple[Path, ...], spacing_mm: Sequence[float], boxes: Sequence[Box]
) -> np.ndarray:
    """Return the image features (N, d) of one case's regions; only numbers stay of its image."""
    return image_features(label_format.read_image(images), spacing_mm, boxes)
