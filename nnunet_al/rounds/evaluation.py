"""Measure a model on the test cases of a campaign."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

from nnunet_al.campaign.commits import total_cost
from nnunet_al.errors import CampaignError, DatasetError
from nnunet_al.evaluation.case_metrics import evaluate_case, summarise
from nnunet_al.evaluation.slices import dice_of_slices, summarise_slices
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.groups import fairness
from nnunet_al.rounds.round_model import make_predictor
from nnunet_al.terminal import progress

Cases = Mapping[str, Mapping[str, Any]]
"""Case -> class -> its metrics."""


def evaluate_checkpoint(
    context: RoundContext,
    checkpoint: Path,
    label_folder: Path | None = None,
    before: Cases = MappingProxyType({}),
    save_partial: Callable[[Callable[[], Cases]], object] = lambda _: None,
    keep: bool = True,
) -> dict[str, Any]:
    """Predict all test cases with a checkpoint and compare with their labels, or with those in ``label_folder``.

    The cases in ``before`` are taken over. ``save_partial`` is called after each other case with a function that
    returns the cases so far; an exception of it ends the evaluation. Predictions of the campaign's first test cases,
    ``-keep_predictions`` of them, are written into the round's folder, unless ``keep`` is false.

    Returns
    -------
    dict
        the round, the training data of its model, ``cases`` (case -> class -> Dice and HD95 in mm, and for a 2d network
        the Dice of slices), ``mean`` over cases for each class and ``foreground_mean`` over classes; ``groups`` where
        the campaign has groups of cases.
    """
    decided, dataset = context.decided, context.data.dataset
    if not decided.test_cases:
        raise CampaignError(f"The campaign {context.folder.root} has no test cases to evaluate on.")
    files = {case: context.data.tests[case] for case in decided.test_cases}
    references = {case: _reference(case, file.label, label_folder, dataset.file_ending) for case, file in files.items()}
    predict = make_predictor(context, checkpoint, context.test_images(), mirroring=True)
    to_keep = decided.test_cases[: context.options.keep_predictions] if keep else ()
    planned = context.configuration
    sliced_along = context.plans["transpose_forward"][0] if len(planned["patch_size"]) == 2 else None
    cases: dict[str, Mapping[str, Any]] = {}
    for case in progress(decided.test_cases, "test cases"):
        kept = context.round.predictions / f"{case}{dataset.file_ending}" if case in to_keep else None
        if case in before and (kept is None or kept.is_file()):
            cases[case] = before[case]
            continue
        prediction_xyz = predict(case)
        if kept is not None:
            context.label_format.write(kept, prediction_xyz, context.label_format.image_properties(files[case].images))
        reference_xyz = context.label_format.read(references[case])
        if prediction_xyz.shape != reference_xyz.shape:
            raise DatasetError(f"{references[case]} has another shape than the image of {case}: take its label.")
        spacing_mm = context.data.test_facts[case].spacing_mm
        found = evaluate_case(prediction_xyz, reference_xyz, spacing_mm, dataset.classes, dataset.ignore_label)
        if sliced_along is not None:
            maps = prediction_xyz, reference_xyz
            of_slices = dice_of_slices(*maps, sliced_along, dataset.classes, dataset.ignore_label)
            cases[case] = {name: {**metrics, **of_slices[name]} for name, metrics in found.items()}
        else:
            cases[case] = found
        save_partial(lambda: cases)
    groups = {"groups": fairness(context, cases)} if decided.groups else {}
    summary: dict[str, Any] = {**summarise(cases)}
    if sliced_along is not None:
        _add_slices(summary, cases)
    return {**trained_on(context, checkpoint), **summary, **groups, "cases": cases}


def trained_on(context: RoundContext, checkpoint: Path) -> dict[str, Any]:
    """Return the round, the checkpoint and the training data of a model: the metrics that need no test case."""
    return {
        "round": context.number,
        "checkpoint": str(checkpoint),
        **total_cost(context.commits, context.decided.withdrawn_cases).to_json("trained_on_"),
    }


def _add_slices(summary: dict[str, Any], cases: Cases) -> None:
    of_slices = summarise_slices(list(cases.values()))
    for name, found in of_slices.items():
        summary["mean"][name] = {**summary["mean"][name], **found}
    known = [found["slice_dice"] for found in of_slices.values() if found["slice_dice"] is not None]
    summary["foreground_mean"] = {**summary["foreground_mean"], "slice_dice": fmean(known) if known else None}


def _reference(case: str, label: Path | None, folder: Path | None, ending: str) -> Path:
    path = folder / f"{case}{ending}" if folder is not None else label
    if path is None or not path.is_file():
        raise DatasetError(f"There is no label of the test case {case} to compare with ({path}): put it there.")
    return path
