"""The images, labels and regions that readers get of each case of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from nnunet_al.annotation.grids import read_grid
from nnunet_al.annotation.manifest import CaseHandOut, HandedRegion
from nnunet_al.campaign.commits import asked_regions
from nnunet_al.files import read_json
from nnunet_al.nnunet.file_axes import file_axes
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round_model import make_predictor
from nnunet_al.terminal import progress


def handed_cases(context: RoundContext) -> Iterator[CaseHandOut]:
    """Yield the hand-out of each case of the batch, one at a time.

    The pre-segmentation holds the present annotations and, elsewhere, the prediction of the round's model; before there
    is a model, nothing.
    """
    entries = read_json(context.round.batch)["regions"]
    regions = asked_regions(context.round)
    predict = _predictor(context)
    commits = context.commits
    for case in progress(sorted({region.case for region in regions}), "cases"):
        facts, files = context.data.facts[case], context.data.dataset.cases[case]
        properties = context.label_format.image_properties(files.images)
        axes = file_axes(context.label_format, facts.raw_shape, properties, context.data.dataset.file_ending)
        labels_xyz = predict(case)
        known_xyz = context.ledger.labels(case, facts.raw_shape, commits)
        np.copyto(labels_xyz, known_xyz, where=known_xyz != context.ignore)
        yield CaseHandOut(
            case=case,
            images=files.images,
            image_hashes=facts.image_hashes,
            grid=read_grid(files.images[0]),
            labels_kji=np.ascontiguousarray(axes.to_file(labels_xyz)),
            regions=tuple(
                HandedRegion(entry["rank"], axes.box_to_file(region.box, facts.raw_shape), entry["score"])
                for entry, region in zip(entries, regions, strict=True)
                if region.case == case
            ),
        )


def _predictor(context: RoundContext) -> Callable[[str], np.ndarray]:
    if context.number == 0:
        return lambda case: np.zeros(context.data.facts[case].raw_shape, np.int32)
    predict = make_predictor(context, context.checkpoint(context.round), context.pool_images(), mirroring=True)
    return lambda case: predict(case).astype(np.int32)
