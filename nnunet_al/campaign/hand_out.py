"""The stage that writes the folder from which readers annotate a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK

from nnunet_al.annotation.hand_out import write_batch_folder
from nnunet_al.annotation.manifest import MANIFEST, Batch, CaseHandOut, HandedRegion, read_manifest
from nnunet_al.annotation.monailabel import write_datastore
from nnunet_al.annotation.segments import segments_of
from nnunet_al.annotation.volumes import Grid
from nnunet_al.campaign.batch import asked_regions
from nnunet_al.campaign.context import RoundContext
from nnunet_al.files import hash_array, hash_file, read_json
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
        campaign=f"{context.folder.root.parent.name}/{context.folder.root.name}",
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


def grid_of(files: CaseFiles) -> Grid:
    """Return the grid of a case's image without reading its voxels."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(files.images[0]))
    reader.ReadImageInformation()
    return Grid(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())


def handed_labels(folder: Path, case: str, grid: Grid) -> np.ndarray:
    """Return the pre-segmentation (k, j, i) of a case as it was handed out.

    Each was written twice; a file that somebody has changed since is passed over. Where both were, nothing is known of
    it, and it counts as empty.
    """
    entry = next(entry for entry in read_manifest(folder)["cases"] if entry["case"] == case)
    for file in entry["presegmentation"]["files"]:
        try:
            labels_kji = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / file))).astype(np.int32)
        except RuntimeError:
            continue
        if hash_array(labels_kji) == entry["presegmentation"]["sha256"]:
            return labels_kji
    return np.zeros(grid.shape_kji, np.int32)


def changed_in_place(folder: Path) -> Iterator[Path]:
    """Yield the pre-segmentations that somebody has drawn into where they lie, instead of returning a file."""
    manifest = read_manifest(folder)
    handed_out = (folder / MANIFEST).stat().st_mtime
    for entry in manifest["cases"]:
        for file in entry["presegmentation"]["files"]:
            path = folder / file
            if not path.is_file() or path.stat().st_mtime <= handed_out:  # older: nobody has written to it
                continue
            try:
                labels_kji = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).astype(np.int32)
            except RuntimeError:
                yield path
                continue
            if hash_array(labels_kji) != entry["presegmentation"]["sha256"]:
                yield path


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
