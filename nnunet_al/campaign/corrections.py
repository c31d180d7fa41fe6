"""Labels that are corrected after the fact: a new entry of the ledger takes the place of the old one, which stays."""

from __future__ import annotations

import numpy as np

from nnunet_al.annotation.gate import Asked, examine
from nnunet_al.annotation.segments import segments_of
from nnunet_al.campaign.batch_collector import ACCEPTED, KNOWN, REFUSED, Outcome, now
from nnunet_al.campaign.context import RoundContext
from nnunet_al.campaign.hand_out import grid_of
from nnunet_al.campaign.ledger import CORRECTION, CaseAnnotation, Ledger
from nnunet_al.campaign.returned import ReturnedFile
from nnunet_al.errors import ReturnError
from nnunet_al.files import hash_file
from nnunet_al.nnunet.file_axes import file_axes
from nnunet_al.pool.boxes import to_slices, whole
from nnunet_al.progress import count


def take_correction(context: RoundContext, ledger: Ledger, file: ReturnedFile) -> Outcome:
    """Take a label file of a whole case in place of what is annotated of it.

    Only voxels that are annotated already, and that the file labels otherwise, enter the new commit: a correction
    annotates nothing new. The gate is the one for batches, less the mark of review: giving the file as a correction is
    one.
    """
    try:
        if file.problem is not None or file.case is None:
            raise ReturnError(file.problem or f"{file.path.name} bears the name of no annotated case.")
        return _take(context, ledger, file, file.case)
    except ReturnError as error:
        return Outcome(file.path, file.case or "", file.reader, context.number, REFUSED, 0, (str(error),))


def _take(context: RoundContext, ledger: Ledger, file: ReturnedFile, case: str) -> Outcome:
    dataset, facts, ignore = context.data.dataset, context.data.facts[case], context.ignore
    properties = context.label_format.image_properties(dataset.cases[case].images)
    axes = file_axes(context.label_format, facts.raw_shape, properties, dataset.file_ending)
    commits = ledger.commits()
    now_xyz = ledger.labels(case, facts.raw_shape, commits)
    nothing_kji = np.full(axes.to_file(now_xyz).shape, ignore, np.int32)
    asked = Asked(
        case=case,
        grid=grid_of(dataset.cases[case]),
        handed_out_kji=np.where(axes.to_file(now_xyz) == ignore, 0, axes.to_file(now_xyz)),
        earlier_kji=nothing_kji,
        ignore=ignore,
        boxes={1: whole(nothing_kji.shape)},
    )
    reading = examine(file.path, asked, segments_of(dataset.labels), [1], {}, file.names)
    labels_xyz = axes.from_file(reading.labels_kji)
    changed_xyz = (now_xyz != ignore) & (labels_xyz != now_xyz)
    changed = int(changed_xyz.sum())
    if not changed:
        return Outcome(file.path, case, file.reader, context.number, KNOWN, 0, ("It says what is annotated already.",))
    annotated = {region for commit in commits if commit.counts for region in commit.regions if region.case == case}
    regions = tuple(region for region in sorted(annotated) if changed_xyz[to_slices(region.box)].any())
    correction = CaseAnnotation(np.where(changed_xyz, labels_xyz, ignore), properties, hash_file(file.path))
    sentence = f"{case}: {count(changed, 'voxel')} of what was annotated before got another label."
    ledger.append(context.number, CORRECTION, file.reader, regions, {case: correction}, (sentence,), collected=now())
    return Outcome(file.path, case, file.reader, context.number, ACCEPTED, len(regions), (sentence, *reading.remarks))
