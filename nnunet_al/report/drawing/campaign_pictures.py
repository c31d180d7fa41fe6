"""What the pictures show of a campaign: its learning curve, and what its last batch asked for."""

from __future__ import annotations

import numpy as np

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.files import read_json
from nnunet_al.nnunet.prediction import predict_segmentation
from nnunet_al.pool.boxes import as_box
from nnunet_al.report.drawing.learning_curves import Curve
from nnunet_al.report.drawing.selection_picture import Panel
from nnunet_al.report.evidence.batch_overlays import class_names, new_labels
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round_model import load_round_model


def curve_of(folder: CampaignFolder) -> Curve:
    """Return Dice against the regions that each round's model was trained on."""
    decided = Decisions.load(folder.decisions)
    metrics = [read_json(round_.metrics) for round_ in folder.rounds() if round_.metrics.is_file()]
    classes = list(metrics[0]["mean"]) if metrics else []
    return Curve(
        decided.recipe.name,
        [entry["trained_on_regions"] for entry in metrics],
        [entry["foreground_mean"]["dice"] for entry in metrics],
        {name: [entry["mean"][name]["dice"] for entry in metrics] for name in classes},
    )


def panels_of(context: RoundContext, count: int) -> list[Panel]:
    """Return the first ``count`` regions of a round's batch: image, the round's prediction, and what was annotated.

    That is what was annotated in this round for the first time, by whomever; without a label where that is nothing.
    """
    plan, network, device = load_round_model(context, context.checkpoint(context.round))
    images = context.pool_images()
    panels = []
    for entry in read_json(context.round.batch)["regions"][:count]:
        case, box = entry["case"], as_box(entry["box"])
        stored = images[case]
        image_xyz = context.label_format.read_image(context.data.dataset.cases[case].images)[0]
        prediction_xyz = predict_segmentation(network, plan, stored.open()[:], stored.properties(), device)
        new_xyz = new_labels(context, case)
        reference_xyz = np.where(new_xyz == context.ignore, 0, new_xyz) if (new_xyz != context.ignore).any() else None
        geometry = context.geometries[case]
        across = geometry.transpose_forward[0]
        index = (box[across][0] + box[across][1]) // 2
        y, x = (axis for axis in range(3) if axis != across)
        panels.append(
            Panel(
                title=f"{context.decided.recipe.name}, round {context.number}\n{case}, slice {index}",
                image_yx=np.take(image_xyz, index, across),
                prediction_yx=np.take(prediction_xyz, index, across),
                reference_yx=None if reference_xyz is None else np.take(reference_xyz, index, across),
                box=(box[y], box[x]),
                spacing_yx=(geometry.raw_spacing_mm[y], geometry.raw_spacing_mm[x]),
                score=entry["score"],
                classes=class_names(context.data.dataset.classes),
            )
        )
    return panels
