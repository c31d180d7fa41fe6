"""The stage that writes the folder from which readers annotate a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import SimpleITK

from nnunet_al.annotation.hand_out import write_batch_folder
from nnunet_al.annotation.manifest import Batch, CaseHandOut, HandedRegion
from nnunet_al.annotation.monailabel import write_datastore
from nnunet_al.annotation.segments import segments_of
from nnunet_al.annotation.volumes import Grid
from nnunet_al.campaign.batch import asked_regions
from nnunet_al.campaign.context import RoundContext
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.files import hash_file, read_json
from nnunet_al.nnunet.file_axes import file_axes
from nnunet_al.nnunet.raw_dataset import CaseFiles
from nnunet_al.progress import progress, say

WRITERS = {"folder": write_batch_folder, "monailabel": write_datastore}


def hand_out(context: RoundContext) -> None:
    """Write the batch folder, unless it is there; a batch that asks for nothing has none."""
    if context.round.hand_out.exists() or not asked_regions(context.round):
        return
    decided = context.decided
    model = context.checkpoint(context.round)
    batch = Batch(
        campaign=campaign_name(context.folder),
        dataset=decided.dataset,
        round=context.number,
        strategy=read_json(context.round.batch)["strategy"],
        seed=decided.seed,
        unit=decided.unit,
        segments=segments_of(context.data.dataset.labels),
        model=hash_file(model) if context.number else None,
        readings=decided.readings,
    )
    WRITERS[decided.hand_out](context.round.hand_out, batch, handed_cases(context))
    say(f"    the batch for the readers lies in {context.round.hand_out}")


def handed_cases(context: RoundContext) -> Iterator[CaseHandOut]:
    """Yield what readers get of each case of the batch, one at a time.

    The pre-segmentation is what is annotated already and, elsewhere, what the round's model predicts; before there is
    a model, nothing.
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
            grid=grid_of(files),
            labels_kji=np.ascontiguousarray(axes.to_file(labels_xyz)),
            regions=tuple(
                HandedRegion(entry["rank"], axes.box_to_file(region.box, facts.raw_shape), entry["score"])
                for entry, region in zip(entries, regions, strict=True)
                if region.case == case
            ),
        )


def campaign_name(folder: CampaignFolder) -> str:
    """Return the name of a campaign among those of its dataset, as a manifest has it."""
    return f"{folder.root.parent.name}/{folder.root.name}"


def grid_of(files: CaseFiles) -> Grid:
    """Return the grid of a case's image without reading its voxels."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(files.images[0]))
    reader.ReadImageInformation()
    return Grid(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())


def _predictor(context: RoundContext) -> Callable[[str], np.ndarray]:
    if context.number == 0:
        return lambda case: np.zeros(context.data.facts[case].raw_shape, np.int32)
    from nnunet_al.campaign.evaluation import load_round_model
    from nnunet_al.nnunet.prediction import predict_segmentation

    plan, network, device = load_round_model(context, context.checkpoint(context.round))
    images = context.pool_images()

    def predict(case: str) -> np.ndarray:
        stored = images[case]
        return predict_segmentation(network, plan, stored.open()[:], stored.properties(), device).astype(np.int32)

    return predict
