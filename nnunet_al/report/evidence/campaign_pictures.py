"""The panels of the demo's picture: the first regions of a round's batch."""

from __future__ import annotations

import numpy as np

from nnunet_al.campaign.commits import asked_regions
from nnunet_al.files import read_json
from nnunet_al.nnunet.prediction import predict_segmentation
from nnunet_al.report.drawing.selection_picture import Panel
from nnunet_al.report.evidence.batch_overlays import middle_slice, new_labels, slice_panel
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round_model import load_round_model


def panels_of(context: RoundContext, count: int) -> list[Panel]:
    """Return the first ``count`` regions of a round's batch: image, the round's prediction, and the annotation.

    The annotation holds the voxels that were annotated in this round for the first time, by whomever; a panel has no
    label where there are none.
    """
    plan, network, device = load_round_model(context, context.checkpoint(context.round))
    images = context.pool_images()
    scores = [entry["score"] for entry in read_json(context.round.batch)["regions"]]
    panels = []
    for region, score in list(zip(asked_regions(context.round), scores, strict=True))[:count]:
        case = region.case
        stored = images[case]
        new_xyz = new_labels(context, case)
        is_new_xyz = new_xyz != context.ignore
        index = middle_slice(region, context.geometries[case])
        panels.append(
            slice_panel(
                context,
                region,
                f"{context.decided.recipe.name}, round {context.number}\n{case}, slice {index}",
                context.label_format.read_image(context.data.dataset.cases[case].images)[0],
                predict_segmentation(network, plan, stored.open()[:], stored.properties(), device),
                np.where(is_new_xyz, new_xyz, 0) if is_new_xyz.any() else None,
                score,
            )
        )
    return panels
