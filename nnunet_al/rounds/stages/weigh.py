"""Stage `weigh`: the weight of each group of cases, by the Dice of the model on its annotations."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from nnunet_al.evaluation.dice import dice, masks
from nnunet_al.files import write_json
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.groups import classes_of_interest
from nnunet_al.rounds.round_model import make_predictor
from nnunet_al.scoring.group_weights import group_weights
from nnunet_al.terminal import progress, say
from nnunet_al.text import count


def weigh(context: RoundContext) -> None:
    """Measure the model on the annotated cases and write the weight of each group (Danaee et al. 2026, section 3.2)."""
    groups, dice_of_case = context.decided.groups, annotated_dice(context)
    known = sorted({groups[case] for case in context.decided.pool_cases})
    cases = sorted(dice_of_case)
    found = group_weights([dice_of_case[case] for case in cases], [groups[case] for case in cases], known)
    columns: dict[str, Any] = {"weight": found.weights, "z": found.z, "dice": found.mean_dice, "cases": found.counts}
    by_group = {group: {name: of_group[group] for name, of_group in columns.items()} for group in known}
    write_json(context.round.group_weights, {"by_group": by_group, "dice_of_case": dice_of_case})
    for group, entry in by_group.items():
        mean_dice, cases_of = found.mean_dice[group], found.counts[group]
        if mean_dice is None:
            measured = "nothing to measure it by yet, so it counts as much as the worst"
        else:
            measured = f"Dice {mean_dice:.4f} on {count(cases_of, 'annotated case')}"
        say(f"    {group}: weight {entry['weight']:.3f} ({measured})")


def annotated_dice(context: RoundContext) -> dict[str, float]:
    """Return each annotated case's Dice under the round's model, averaged over the classes of interest.

    Only annotated voxels count. A class that is neither in them nor predicted there says nothing about the model and
    is left out, and with it a case of which nothing remains, as in ``fairness``: in campaigns of patches the parts
    without any structure would otherwise make every group look perfect.
    """
    predict = make_predictor(context, context.checkpoint(context.round), context.pool_images())
    classes = classes_of_interest(context)
    found = {}
    for case in progress(context.annotated_cases, "annotated cases"):
        prediction_xyz = predict(case)
        reference_xyz = context.label_format.read(context.composed_label(case))
        annotated_xyz = reference_xyz != context.ignore
        pairs = [masks(prediction_xyz, reference_xyz, labels, annotated_xyz) for labels in classes.values()]
        present = [dice(*pair) for pair in pairs if pair[0].any() or pair[1].any()]
        if present:
            found[case] = fmean(present)
    return found
