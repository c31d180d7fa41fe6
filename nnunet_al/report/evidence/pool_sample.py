"""A random part of the pool: uncertainty against error where no strategy has chosen the regions."""

from __future__ import annotations

import numpy as np

from nnunet_al.campaign.pool_state import pool_of_round
from nnunet_al.evaluation.dice import class_mask
from nnunet_al.files import read_arrays
from nnunet_al.nnunet.prediction import predict_segmentation
from nnunet_al.pool.boxes import to_slices
from nnunet_al.pool.table import by_case
from nnunet_al.report.evidence.batch_overlays import Network, region_error
from nnunet_al.report.evidence.record import BatchRegion
from nnunet_al.rounds.candidates import candidate_numbers
from nnunet_al.rounds.context import RoundContext
from nnunet_al.terminal import progress

MOST_REGIONS, MOST_CASES = 100, 30
"""Regions that are drawn, from this many cases at most, since each case is predicted as a whole."""


def draw_regions(context: RoundContext) -> list[int]:
    """Draw regions that the round's model was not trained on; none where people annotate or a case lacks its label.

    Of more than `MOST_CASES` cases that many are drawn first. The draw is the same for all strategies of a seed and a
    round as far as the same regions are left.
    """
    facts, decided = context.data.facts, context.decided
    cases = pool_of_round(decided, context.number) & context.geometries.keys() & facts.keys()
    answers = {"complete", "partial", "unannotated"} if decided.labels_are_oracle else {"complete"}
    if decided.annotate or any(facts[case].label_state not in answers for case in cases):
        return []
    rng = context.rng("random part of the pool in the report")
    left = by_case(context.regions, [n for n in candidate_numbers(context) if context.regions[n].case in cases])
    drawn = sorted(rng.choice(sorted(left), min(MOST_CASES, len(left)), replace=False).tolist()) if left else []
    numbers = [number for case in drawn for number in left[case]]
    return sorted(rng.choice(numbers, min(MOST_REGIONS, len(numbers)), replace=False).tolist()) if numbers else []


def examine_pool(context: RoundContext, model: Network, numbers: list[int]) -> list[BatchRegion]:
    """Return regions of the pool with the strategy's scores and the errors of the round's model, without entropies.

    Their labels are the dataset's, of which the campaign has not asked for most: nothing of this goes back to it.
    """
    plan, network, device = model
    dataset, ignore, scores = context.data.dataset, context.data.dataset.ignore_label, _scores(context)
    stored = context.pool_images()
    found: list[BatchRegion] = []
    for case, of_case in progress(by_case(context.regions, numbers).items(), "cases of the pool"):
        label = dataset.cases[case].label
        assert label is not None, "its label is complete"
        labels_xyz = context.label_format.read(label)
        prediction_xyz = predict_segmentation(network, plan, stored[case].open()[:], stored[case].properties(), device)
        for number in of_case:
            region = context.regions[number]
            predicted, labels = prediction_xyz[to_slices(region.box)], labels_xyz[to_slices(region.box)]
            counted = np.ones(labels.shape, bool) if ignore is None else labels != ignore
            voxels = int(np.count_nonzero(counted))
            foreground = [
                class_mask(of, value) & counted for of in (predicted, labels) for value in dataset.classes.values()
            ]
            found.append(
                BatchRegion(
                    rank=len(found) + 1,
                    region=region,
                    score=scores.get(number),
                    entropy=None,
                    error=region_error(predicted, labels, dataset.classes, -1 if ignore is None else ignore),
                    misclassified=float(((predicted != labels) & counted).sum() / voxels) if voxels else None,
                    new_voxels=voxels,
                    foreground=any(mask.any() for mask in foreground),
                )
            )
    return found


def _scores(context: RoundContext) -> dict[int, float]:
    """Return number -> score of the regions that the strategy has scored, where it gives each one a score."""
    if not context.round.scores.is_file():
        return {}
    arrays = read_arrays(context.round.scores)
    if "scores_N" not in arrays:
        return {}
    pairs = zip(arrays["numbers_N"].tolist(), arrays["scores_N"].tolist(), strict=True)
    return {number: score for number, score in pairs if np.isfinite(score)}
