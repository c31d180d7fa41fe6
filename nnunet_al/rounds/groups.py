"""The groups of a campaign's cases: the classes by which they are compared, their weights, and their fairness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from nnunet_al.campaign.commits import CORRECTION
from nnunet_al.errors import StrategyError
from nnunet_al.evaluation.case_metrics import mean_dice
from nnunet_al.evaluation.fairness import fairness_report, group_metrics
from nnunet_al.files import read_json
from nnunet_al.rounds.context import RoundContext
from nnunet_al.strategies.candidates import Candidates


def weighted(context: RoundContext, candidates: Candidates) -> Candidates:
    """Multiply all scores of each candidate by the weight of its case's group (Danaee et al. 2026, eq. 2).

    Raises StrategyError if a score is negative, since a larger weight would make it smaller.
    """
    weights = {group: entry["weight"] for group, entry in read_json(context.round.group_weights)["by_group"].items()}
    assert candidates.cases_N is not None
    weights_N = np.array([weights[context.decided.groups[case]] for case in candidates.cases_N])
    fields = ("scores_N", "target_scores_N", "boundary_scores_N", "mean_scores_N", "class_scores_N_C")
    known = {name: scores for name in fields if (scores := getattr(candidates, name)) is not None}
    recipe = context.decided.recipe
    if any((scores < 0).any() for scores in known.values()):
        raise StrategyError(
            f"The strategy '{recipe.name}' multiplies scores by the weights of groups, and its metric "
            f"'{recipe.metric}' gave a negative one: '{recipe.weighting}' needs a metric that is never negative."
        )
    return replace(candidates, **{name: (scores.T * weights_N).T for name, scores in known.items()})


def fairness(context: RoundContext, cases: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fairness between the groups of the test cases, and the share of all annotation that each group has.

    ``cases`` holds the metrics of each test case and class; a case's Dice is the mean over the classes of interest that
    are there or predicted, and a case without any is left out, as in ``annotated_dice``. In ``delta_absent_as_1``,
    another Δ, such a class counts as Dice 1, so that it also measures how much rarer a structure is in one group.
    Shares are of regions; in a campaign that started from a dataset's own annotations, of which not all need be whole
    regions, they are of voxels.
    """
    groups, names = context.decided.groups, classes_of_interest(context)
    found = {case: mean_dice(classes, names) for case, classes in cases.items()}
    dice_of_case = {case: value for case, value in found.items() if value is not None}
    report = fairness_report(dice_of_case, groups, context.rng("bootstrap"))
    every = group_metrics(
        [fmean(classes[name]["dice"] for name in names) for classes in cases.values()], [groups[case] for case in cases]
    )
    regions = Counter(groups[region.case] for region in context.annotated_regions)
    voxels: Counter[str] = Counter()
    for commit in context.commits:
        for case, entry in commit.labels.items():
            if commit.counts and commit.source != CORRECTION and case in context.annotated_cases:
                voxels[groups[case]] += entry.annotated_voxels
    counted = voxels if context.decided.starts_from == "dataset" else regions
    for group, entry in report["by_group"].items():
        entry["annotated_regions"], entry["annotated_voxels"] = regions[group], voxels[group]
        entry["annotated_share"] = counted[group] / counted.total() if counted else None
    absent_as_1 = every.delta if every.number > 1 else None
    return {"group_by": list(context.decided.group_by), **report, "delta_absent_as_1": absent_as_1}


def classes_of_interest(context: RoundContext) -> dict[str, Any]:
    """Return the foreground classes that ``-roi_classes`` names, or all of them, by name."""
    classes, chosen = context.data.dataset.classes, context.decided.roi_classes
    return {name: classes[name] for name in chosen} if chosen else dict(classes)


def roi_channels(context: RoundContext, heads: Sequence[Any], exclusive: bool) -> tuple[int, ...]:
    """Return the network's output channels of the chosen classes; none of them where no class was chosen.

    ``heads`` are the labels behind the outputs of the foreground; where classes exclude each other, channel 0 in front
    of them is the background.
    """
    if not context.decided.roi_classes:
        return ()
    wanted = {_as_tuple(labels) for labels in classes_of_interest(context).values()}
    return tuple(index + exclusive for index, labels in enumerate(heads) if _as_tuple(labels) in wanted)


def _as_tuple(labels: Any) -> tuple[int, ...]:
    return tuple(sorted(labels)) if isinstance(labels, (tuple, list)) else (int(labels),)
