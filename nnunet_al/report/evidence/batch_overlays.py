"""The predictions of a round's model in the regions of its batch against the annotation: errors and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
import torch

from nnunet_al.campaign.commits import asked_regions
from nnunet_al.evaluation.dice import ClassLabels, class_names, dice, masks
from nnunet_al.files import read_json
from nnunet_al.nnunet.model import Plan
from nnunet_al.nnunet.prediction import predict_segmentation, sliding_window_logits
from nnunet_al.pool.boxes import Region, to_slices
from nnunet_al.pool.geometry import CaseGeometry
from nnunet_al.report.drawing.selection_picture import Panel
from nnunet_al.report.evidence.raw_slices import network_slice, on_raw_slice
from nnunet_al.report.evidence.record import BatchRegion, label_commits
from nnunet_al.report.evidence.strategy_map import StrategyMap
from nnunet_al.rounds.context import RoundContext
from nnunet_al.scoring.maps import entropy
from nnunet_al.scoring.posterior import head_probabilities
from nnunet_al.terminal import progress

Network = tuple[Plan, torch.nn.Module, torch.device]


def examine_batch(
    context: RoundContext, model: Network, pictures: int, own: StrategyMap | None = None
) -> tuple[list[BatchRegion], list[Panel]]:
    """Predict each case of a round's batch once; return all its regions, and panels of the first ``pictures``.

    Regions of cases that were withdrawn since are left out. Both lists are in the order of the ranks. Errors and the
    labels of panels count voxels that were annotated in this round. ``own`` is the strategy's own map, which
    panels have, too.
    """
    known = [
        (rank, region)
        for rank, region in enumerate(asked_regions(context.round), start=1)
        if _is_known(context, region)
    ]
    shown = {rank for rank, _ in known[:pictures]}
    scores = [entry["score"] for entry in read_json(context.round.batch)["regions"]]
    regions: list[BatchRegion] = []
    panels: dict[int, Panel] = {}
    by_case: dict[str, list[tuple[int, Region]]] = {}
    for rank, region in known:
        by_case.setdefault(region.case, []).append((rank, region))
    stored = context.pool_images()
    plan, network, device = model
    for case in progress(sorted(by_case), "cases of the batch"):
        data_C_xyz, properties = stored[case].open()[:], stored[case].properties()
        prediction_xyz = predict_segmentation(network, plan, data_C_xyz, properties, device)
        new_xyz = new_labels(context, case)
        for rank, region in by_case[case]:
            regions.append(_compared(rank, region, scores[rank - 1], prediction_xyz, new_xyz, context))
        some = [(rank, region) for rank, region in by_case[case] if rank in shown]
        panels.update(_panels(context, model, own, some, data_C_xyz, prediction_xyz, new_xyz) if some else ())
    return sorted(regions, key=lambda entry: entry.rank), [panels[rank] for rank in sorted(panels)]


def new_labels(context: RoundContext, case: str) -> np.ndarray:
    """Return the labels of a case that were annotated in this round for the first time, ignore elsewhere: (z, y, x).

    Labels are the present ones, with corrections of later rounds. A correction of voxels that the round's model was
    trained on makes nothing new.
    """
    shape = context.data.facts[case].raw_shape
    commits = context.ledger.commits()
    so_far = [commit for commit in commits if commit.round <= context.number]
    before_xyz = context.ledger.labels(case, shape, context.commits)
    then_xyz = context.ledger.labels(case, shape, so_far)
    labels_xyz = context.ledger.labels(case, shape, label_commits(commits, context.number))
    new_xyz = (before_xyz == context.ignore) & (then_xyz != context.ignore)
    return np.where(new_xyz, labels_xyz, context.ignore)


def middle_slice(region: Region, geometry: CaseGeometry) -> int:
    """Return the raw slice through the middle of a region, along the axis that the network takes first."""
    return sum(region.box[geometry.transpose_forward[0]]) // 2


def slice_panel(
    context: RoundContext,
    region: Region,
    title: str,
    image_xyz: np.ndarray,
    prediction_xyz: np.ndarray,
    reference_xyz: np.ndarray | None,
    score: float | None = None,
    uncertainty_yx: np.ndarray | None = None,
) -> Panel:
    """Return the middle slice of a region as a panel; volumes are those of the region's case, in raw voxels."""
    geometry = context.geometries[region.case]
    across, index = geometry.transpose_forward[0], middle_slice(region, geometry)
    y, x = (axis for axis in range(3) if axis != across)
    return Panel(
        title=title,
        image_yx=np.take(image_xyz, index, across),
        prediction_yx=np.take(prediction_xyz, index, across),
        reference_yx=None if reference_xyz is None else np.take(reference_xyz, index, across),
        box=(region.box[y], region.box[x]),
        spacing_yx=(geometry.raw_spacing_mm[y], geometry.raw_spacing_mm[x]),
        score=score,
        uncertainty_yx=uncertainty_yx,
        classes=class_names(context.data.dataset.classes),
    )


def region_error(
    prediction_xyz: np.ndarray, labels_xyz: np.ndarray, classes: Mapping[str, ClassLabels], ignore: int
) -> float | None:
    """Return 1 - Dice, the mean over the classes that are in the labels or the prediction of voxels not ``ignore``.

    0 where there is no class in either: both are background. None where every voxel is ``ignore``.
    """
    counted_xyz = labels_xyz != ignore
    if not counted_xyz.any():
        return None
    pairs = [masks(prediction_xyz, labels_xyz, values, counted_xyz) for values in classes.values()]
    found = [dice(*pair) for pair in pairs if pair[0].any() or pair[1].any()]
    return 1 - fmean(found) if found else 0.0


def _is_known(context: RoundContext, region: Region) -> bool:
    return region.case in context.geometries and region.case in context.data.dataset.cases


def _compared(
    rank: int,
    region: Region,
    score: float | None,
    prediction_xyz: np.ndarray,
    new_xyz: np.ndarray,
    context: RoundContext,
) -> BatchRegion:
    box = to_slices(region.box)
    predicted, labels = prediction_xyz[box], new_xyz[box]
    counted = labels != context.ignore
    new_voxels = int(np.count_nonzero(counted))
    wrong = int(np.count_nonzero((predicted != labels) & counted))
    return BatchRegion(
        rank,
        region,
        score=score,
        entropy=None,
        error=region_error(predicted, labels, context.data.dataset.classes, context.ignore),
        misclassified=wrong / new_voxels if new_voxels else None,
        new_voxels=new_voxels,
        foreground=bool(((predicted > 0) & counted).any() or ((labels > 0) & counted).any()),
    )


def _panels(
    context: RoundContext,
    model: Network,
    own: StrategyMap | None,
    regions: Sequence[tuple[int, Region]],
    data_C_xyz: np.ndarray,
    prediction_xyz: np.ndarray,
    new_xyz: np.ndarray,
) -> Iterator[tuple[int, Panel]]:
    case = regions[0][1].case
    geometry = context.geometries[case]
    image_xyz = context.label_format.read_image(context.data.dataset.cases[case].images)[0]
    whole = _entropy_map(model, data_C_xyz) if len(model[0].patch_size) == 3 else None
    shown_xyz = np.where(new_xyz == context.ignore, 0, new_xyz)
    for rank, region in regions:
        index = middle_slice(region, geometry)
        answered = (new_xyz[to_slices(region.box)] != context.ignore).any()
        panel = slice_panel(
            context,
            region,
            f"{rank}: {case}, slice {index}" + ("" if answered else ", not annotated"),
            image_xyz,
            prediction_xyz,
            shown_xyz,
            uncertainty_yx=_uncertainty(model, data_C_xyz, whole, geometry, index),
        )
        if own is not None:
            map_yx = own.on_raw_slice(data_C_xyz, geometry, region.box, index)
            panel = replace(panel, map_yx=map_yx, map_name=own.name)
        yield rank, panel


def _uncertainty(
    model: Network, data_C_xyz: np.ndarray, whole: np.ndarray | None, geometry: CaseGeometry, index: int
) -> np.ndarray:
    if whole is not None:
        return on_raw_slice(whole, geometry, index)
    number = network_slice(geometry, index) or 0
    # a 2d network sees one slice at a time: the others need not be predicted again
    return on_raw_slice(_entropy_map(model, data_C_xyz[:, number : number + 1]), geometry, index, number)


def _entropy_map(model: Network, data_C_xyz: np.ndarray) -> np.ndarray:
    plan, network, device = model
    logits_B_C_xyz = sliding_window_logits(network, plan, data_C_xyz, device).float().unsqueeze(0)
    probs_T_B_C_xyz = head_probabilities(logits_B_C_xyz, plan.exclusive).unsqueeze(0)
    map_xyz: np.ndarray = entropy(probs_T_B_C_xyz, plan.exclusive)[0].numpy()
    return map_xyz
