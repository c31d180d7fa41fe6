"""The stages of a round that lead from annotations to an evaluated model."""

from __future__ import annotations

import numpy as np

from nnunet_al.campaign.context import RoundContext
from nnunet_al.campaign.labels import composed
from nnunet_al.campaign.results import write_results
from nnunet_al.campaign.sharing import first_model
from nnunet_al.errors import CampaignError, SetupError
from nnunet_al.files import read_json, write_json
from nnunet_al.nnunet.blosc_files import link_or_copy
from nnunet_al.nnunet.fingerprint import PLACEHOLDER, extract_fingerprint, intensity_drift
from nnunet_al.nnunet.planning import DIFFERENCE_FILE, PlannerSettings, plan
from nnunet_al.nnunet.round_view import preprocess_round, write_round_view
from nnunet_al.nnunet.splits import member_splits, training_split
from nnunet_al.nnunet.trainer_settings import TrainerSettings
from nnunet_al.progress import progress, say

_INTENSITIES = "foreground_intensity_properties_per_channel"


def compose_labels(context: RoundContext) -> None:
    """Write the composed label of each annotated case, and the round's splits.

    A case that no new commit touches is taken over from the round before.

    Raises
    ------
    CampaignError
        if nothing is annotated, because all of the first batch was withdrawn or given back.
    """
    if not context.annotated_now:
        raise CampaignError(
            f"Nothing of the pool of {context.folder.root} is annotated, so that there is nothing to train on: start "
            "another campaign with -tag."
        )
    context.mark_ledger()
    for case in progress(context.annotated_cases, "labels"):
        target = context.composed_label(case)
        earlier = context.previous
        before = None if earlier is None else earlier.view.raw / target.relative_to(context.round.view.raw)
        if before is not None and case not in context.new_cases and before.is_file():
            link_or_copy(before, target, target.parent.parent)
            continue
        labels_xyz = composed(context, case, context.commits)
        context.label_format.write(target, labels_xyz, context.ledger.properties(case, context.commits))
    labels = {case: context.composed_label(case) for case in context.annotated_cases}
    write_round_view(
        context.round.view,
        context.data.dataset,
        labels,
        fold=context.decided.fold,
        split=training_split(context.annotated_cases),
        member_splits=member_splits(context.annotated_cases, len(context.member_folds)),
    )


def fingerprint(context: RoundContext) -> None:
    """Extract the fingerprint: geometry of the whole pool, intensities of what is annotated as foreground."""
    dataset = context.data.dataset
    annotated = {case: (dataset.cases[case].images, context.composed_label(case)) for case in context.annotated_cases}
    pool_facts = {case: context.data.facts[case] for case in context.decided.pool_cases}
    content = extract_fingerprint(
        annotated,
        pool_facts,
        len(dataset.channels),
        len(pool_facts),
        context.ignore,
        context.options.workers,
        samples=context.folder.root / "intensities",
    )
    write_json(context.round.view.preprocessed / dataset.name / "dataset_fingerprint.json", content)


def plan_round(context: RoundContext) -> None:
    """Plan anew, keep what the campaign stands on, and write down what a fresh plan would have changed."""
    decided, view = context.decided, context.round.view
    pinned = _pinned_intensities(context)
    settings = PlannerSettings(len(decided.pool_cases), context.first_plans, pinned, decided.update_intensities)
    plan(view, decided.dataset, decided.planner, settings, plans_name=decided.plans, log=context.log("plan"))
    folder = view.preprocessed / decided.dataset
    differences = read_json(folder / DIFFERENCE_FILE)
    write_json(context.round.root / DIFFERENCE_FILE, differences)
    structural = sorted({d["path"] for d in differences if not d["path"].startswith(_INTENSITIES)})
    if structural:
        say(f"    a fresh plan would change {', '.join(structural)}; the campaign keeps what it began with")
    if pinned is not None and not decided.update_intensities:
        fresh = read_json(folder / "dataset_fingerprint.json")[_INTENSITIES]
        for sentence in intensity_drift(pinned, fresh):
            say(f"    {sentence} --update_intensities lets them follow the annotations.")


def preprocess(context: RoundContext) -> None:
    """Preprocess what changed: labels of newly annotated regions, images that are not in the store yet."""
    decided = context.decided
    boxes: dict[str, list] = {}
    for region in sorted(context.annotated_regions):
        boxes.setdefault(region.case, []).append(region.box)
    lost = preprocess_round(
        context.round.view,
        context.data.dataset,
        {case: context.composed_label(case) for case in context.annotated_cases},
        context.data.facts,
        context.plans,
        decided.configuration,
        context.store,
        context.previous.view if context.previous else None,
        boxes,
        context.options.workers,
        context.log("preprocess"),
    )
    write_json(context.round.root / "lost_annotations.json", lost)
    for sentence in lost[:_SHOWN]:
        say(f"    {sentence}")
    if len(lost) > _SHOWN:
        say(f"    {len(lost) - _SHOWN} more such cases stand in {context.round.root / 'lost_annotations.json'}")


def preprocess_images(context: RoundContext) -> None:
    """Preprocess the images that this round's model will be asked about, before it is trained."""
    if context.decided.recipe.phases():
        context.pool_images()
    if context.decided.test_cases:
        context.test_images()


def train(context: RoundContext) -> None:
    """Train on the annotated cases, from the weights of the round before unless asked otherwise.

    The members of an ensemble of folds are trained before, so that the settings that stay beside the plans are those
    of the round's own model.
    """
    for member, fold in enumerate(context.member_folds, start=1):
        say(f"    member {member} of {len(context.member_folds)}")
        _train_fold(context, fold, f"train_member_{member}")
    _train_fold(context, context.decided.fold, "train")


def _train_fold(context: RoundContext, fold: int, log: str) -> None:
    from nnunet_al.nnunet.training import torch_device
    from nnunet_al.nnunet.training import train as train_model

    decided = context.decided
    settings = TrainerSettings(
        epochs=decided.epochs,
        iterations=decided.iterations,
        batch_size=decided.batch_size,
        optimizer=decided.optimizer,
        seed=decided.seed,
        round=context.number,
        initial_weights=_initial_weights(context, fold),
        dropout=decided.dropout,
    )
    settings.write(context.round.view.preprocessed / decided.dataset)
    if first_model(context, settings):
        return
    train_model(
        context.round.view,
        decided.dataset,
        decided.configuration,
        fold,
        decided.trainer,
        decided.plans,
        torch_device(context.options.device),
        context.checkpoint(context.round, fold),
        None if context.options.verbose else context.log(log),
        context.options.gpus,
    )


def evaluate(context: RoundContext) -> None:
    """Measure the model on the test cases, whose labels touch nothing else.

    Without test cases it is only written down what the model was trained on.
    """
    from nnunet_al.campaign.evaluation import evaluate_checkpoint, trained_on

    if not context.decided.test_cases:
        write_json(context.round.metrics, trained_on(context, context.checkpoint(context.round)))
        say("    the campaign has no test cases")
        return
    metrics = evaluate_checkpoint(context, context.checkpoint(context.round))
    write_json(context.round.metrics, metrics)
    write_results(context.folder)
    mean = metrics["foreground_mean"]
    say(f"    Dice {mean['dice']:.4f}, HD95 {mean['hd95_mm']:.2f} mm on {len(metrics['cases'])} test cases")


_SHOWN = 5


def _pinned_intensities(context: RoundContext) -> dict | None:
    """Return the statistics of the first annotations with foreground, or None while there were none before."""
    for earlier in context.folder.rounds():
        file = earlier.view.preprocessed / context.decided.dataset / "dataset_fingerprint.json"
        if 0 < earlier.number < context.number and file.is_file():
            content = read_json(file)
            if not content.get(PLACEHOLDER):
                intensities: dict = content[_INTENSITIES]
                return intensities
    return None


def _initial_weights(context: RoundContext, fold: int) -> str | None:
    if context.number > 1 and not context.decided.from_scratch:
        assert context.previous is not None
        before = context.checkpoint(context.previous, fold)
        if not before.is_file():
            raise SetupError(
                f"The checkpoint {before} to fine-tune from is missing: restore the file, or delete train.json and "
                f"annotate.json in {context.previous.stages} and run the command with -round {context.previous.number}."
            )
        return str(before)
    return context.decided.pretrained_weights


def annotated_voxels(context: RoundContext) -> np.ndarray:
    """Count the annotated voxels of each foreground class (or region), in the order of the network's outputs."""
    from nnunet_al.nnunet.model import Plan

    dataset_json = read_json(context.round.view.preprocessed / context.decided.dataset / "dataset.json")
    heads = Plan.of(context.plans, dataset_json, context.decided.configuration).heads
    counts_C = np.zeros(len(heads), np.int64)
    for case in context.annotated_cases:
        labels_xyz = context.label_format.read(context.composed_label(case))
        for index, values in enumerate(heads):
            counts_C[index] += np.isin(labels_xyz, values).sum()
    return counts_C
