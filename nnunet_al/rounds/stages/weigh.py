"""Stage `weigh`: the weight of each group of cases, by the Dice of the model on its annotations."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from nnunet_al.campaign.stage_markers import is_as_left
from nnunet_al.errors import CampaignError
from nnunet_al.evaluation.dice import dice, masks
from nnunet_al.files import read_json, write_json
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
    parameters = context.decided.recipe.parameters
    found = group_weights(
        [dice_of_case[case] for case in cases],
        [groups[case] for case in cases],
        known,
        parameters["shrinkage"],
        parameters["largest_ratio"],
    )
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

    With members of an ensemble that were not trained on the cases, it is the Dice under these (``held_out_by``).
    Only annotated voxels count. A class that is neither in them nor predicted there says nothing about the model and
    is left out, and with it a case of which nothing remains, as in ``fairness``: in campaigns of patches the parts
    without any structure would otherwise make every group look perfect.
    """
    images, classes, found = context.pool_images(), classes_of_interest(context), {}
    folds = held_out_by(context)
    if folds:
        say("    each annotated case is measured by a member of the ensemble that was not trained on it")
    elif context.member_folds and context.decided.recipe.parameters.get("dice_of") == "held_out":
        say("    every member was trained on some annotated case: all are measured by the round's model")
    of_case: dict[str, int | None] = {**dict.fromkeys(context.annotated_cases), **folds}
    predict, loaded = None, None
    for case in progress(sorted(of_case, key=lambda case: (of_case[case] or 0, case)), "annotated cases"):
        if predict is None or of_case[case] != loaded:  # one network in memory at a time
            loaded = of_case[case]
            predict = make_predictor(context, context.checkpoint(context.round, loaded), images)
        prediction_xyz = predict(case)
        reference_xyz = context.label_format.read(context.composed_label(case))
        annotated_xyz = reference_xyz != context.ignore
        pairs = [masks(prediction_xyz, reference_xyz, labels, annotated_xyz) for labels in classes.values()]
        present = [dice(*pair) for pair in pairs if pair[0].any() or pair[1].any()]
        if present:
            found[case] = fmean(present)
    return dict(sorted(found.items()))


def held_out_by(context: RoundContext) -> dict[str, int]:
    """Return for each annotated case the first fold of the ensemble that was never trained on it; nothing if any lacks.

    With ``ensemble_of=folds`` each member leaves out some cases. Members that go on from those of the round before have
    also seen the cases of their former folds. Where only some cases have a member that does not know them, they would
    look worse than the others, and the groups that were annotated last with them.

    Raises CampaignError if a round's list of training cases is damaged.
    """
    if context.decided.recipe.parameters.get("dice_of") != "held_out":
        return {}
    first = context.number if context.decided.from_scratch else 1
    rounds = [context.folder.round(number) for number in range(first, context.number + 1)]
    splits = []
    for round_ in rounds:
        file = round_.view.preprocessed / context.decided.dataset / "splits_final.json"
        if not is_as_left(round_.stages, "labels", file):
            raise CampaignError(f"{file} is gone or not as round {round_.number} left it: restore it from a backup.")
        splits.append(read_json(file))
    found = {}
    for case in context.annotated_cases:
        for fold in context.member_folds:
            if not any(case in split[fold]["train"] for split in splits):
                found[case] = fold
                break
    return found if len(found) == len(context.annotated_cases) else {}
