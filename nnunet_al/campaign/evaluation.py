"""Measure a model on the test cases of a campaign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nnunet_al.campaign.context import RoundContext
from nnunet_al.campaign.cost import total_cost
from nnunet_al.campaign.group_stages import fairness
from nnunet_al.errors import CampaignError, DatasetError
from nnunet_al.evaluation.case_metrics import evaluate_case, summarise
from nnunet_al.files import read_json
from nnunet_al.nnunet.model import Plan, load_network
from nnunet_al.nnunet.prediction import predict_segmentation
from nnunet_al.nnunet.training import torch_device
from nnunet_al.progress import progress


def evaluate_checkpoint(context: RoundContext, checkpoint: Path, label_folder: Path | None = None) -> dict[str, Any]:
    """Predict all test cases with a checkpoint and compare with their labels, or with those in ``label_folder``.

    Returns
    -------
    dict
        the round, what its model was trained on, ``cases`` (case -> class -> Dice and HD95 in mm), ``mean`` over cases
        for each class and ``foreground_mean`` over classes; ``groups`` where the campaign has groups of cases.
    """
    decided, dataset = context.decided, context.data.dataset
    if not decided.test_cases:
        raise CampaignError(f"The campaign {context.folder.root} has no test cases to evaluate on.")
    plan, network, device = load_round_model(context, checkpoint)
    files = {case: context.data.tests[case] for case in decided.test_cases}
    references = {case: _reference(case, file.label, label_folder, dataset.file_ending) for case, file in files.items()}
    images = context.test_images()
    cases = {}
    for case in progress(decided.test_cases, "test cases"):
        stored = images[case]
        prediction_xyz = predict_segmentation(network, plan, stored.open()[:], stored.properties(), device)
        reference_xyz = context.label_format.read(references[case])
        if prediction_xyz.shape != reference_xyz.shape:
            raise DatasetError(f"{references[case]} has another shape than the image of {case}: take its label.")
        spacing_mm = context.data.test_facts[case].spacing_mm
        cases[case] = evaluate_case(prediction_xyz, reference_xyz, spacing_mm, dataset.classes, dataset.ignore_label)
    groups = {"groups": fairness(context, cases)} if decided.groups else {}
    return {
        **trained_on(context, checkpoint),
        **summarise(cases),
        **groups,
        "cases": cases,
    }


def trained_on(context: RoundContext, checkpoint: Path) -> dict[str, Any]:
    """Return what is known of a round's model without any test case."""
    return {
        "round": context.number,
        "checkpoint": str(checkpoint),
        **total_cost(context.commits, context.decided.withdrawn_cases).to_json("trained_on_"),
    }


def load_round_model(context: RoundContext, checkpoint: Path) -> tuple[Plan, torch.nn.Module, torch.device]:
    """Load the network of a round, with the plans of its view."""
    dataset_json = read_json(context.round.view.preprocessed / context.decided.dataset / "dataset.json")
    plan = Plan.of(context.plans, dataset_json, context.decided.configuration)
    device = torch_device(context.options.device)
    return plan, load_network(plan, checkpoint, device), device


def _reference(case: str, label: Path | None, folder: Path | None, ending: str) -> Path:
    path = folder / f"{case}{ending}" if folder is not None else label
    if path is None or not path.is_file():
        raise DatasetError(f"There is no label of the test case {case} to compare with ({path}): put it there.")
    return path
