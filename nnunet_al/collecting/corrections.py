"""Labels that are corrected after the fact: a new entry of the ledger takes the place of the old one, which stays."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from nnunet_al.annotation.grids import read_grid
from nnunet_al.annotation.import_check import HandedOutCase, check_returned
from nnunet_al.annotation.segments import segments_of
from nnunet_al.campaign.commits import CORRECTION
from nnunet_al.campaign.ledger import CaseAnnotation
from nnunet_al.collecting.batch_collector import ACCEPTED, KNOWN, REFUSED, Outcome, now
from nnunet_al.collecting.open_ledger import OpenLedger
from nnunet_al.collecting.returned_files import ReturnedFile
from nnunet_al.errors import ReturnError
from nnunet_al.files import hash_file
from nnunet_al.nnunet.file_axes import file_axes
from nnunet_al.pool.boxes import Region, to_slices, whole
from nnunet_al.progress import count
from nnunet_al.rounds.context import RoundContext


def take_correction(
    context: RoundContext, ledger: OpenLedger, file: ReturnedFile, only: Collection[Region] | None = None
) -> Outcome:
    """Take a label file of a whole case in place of what is annotated of it.

    It counts where something is annotated, and in the regions that were answered, of which readers may have left voxels
    undecided; with ``only`` in those regions alone. What it labels otherwise than the ledger enters the new commit. The
    gate is the one for batches, less the mark of review: giving the file as a correction is one. Without ``only``, a
    file that has nothing in a region where something is annotated is refused: what readers return holds the regions of
    one batch, and must not wipe out those of others.
    """
    try:
        if file.problem is not None or file.case is None:
            raise ReturnError(file.problem or f"{file.path.name} bears the name of no annotated case.")
        return _take(context, ledger, file, file.case, only)
    except ReturnError as error:
        return Outcome(file.path, file.case or "", file.reader, context.number, REFUSED, sentences=(str(error),))


def _take(
    context: RoundContext, ledger: OpenLedger, file: ReturnedFile, case: str, only: Collection[Region] | None
) -> Outcome:
    dataset, shape, ignore = context.data.dataset, context.data.facts[case].raw_shape, context.ignore
    properties = context.label_format.image_properties(dataset.cases[case].images)
    axes = file_axes(context.label_format, shape, properties, dataset.file_ending)
    nothing_kji = np.full(axes.to_file(np.zeros(shape, np.int8)).shape, ignore, np.int32)
    asked = HandedOutCase(
        case=case,
        grid=read_grid(dataset.cases[case].images[0]),
        handed_out_kji=np.zeros_like(nothing_kji),  # of what a file may be wrong in, the ledger is no judge
        earlier_kji=nothing_kji,
        ignore=ignore,
        boxes={1: whole(nothing_kji.shape)},
    )
    reading = check_returned(file.path, asked, segments_of(dataset.labels), [1], {}, file.names)
    labels_xyz = axes.from_file(reading.labels_kji)
    with ledger.held():
        stands_xyz = ledger.labels(case, shape)
        answered = {region for c in ledger.commits if c.counts for region in c.regions if region.case == case}
        chosen = sorted(answered if only is None else answered.intersection(only))
        if only is not None and not chosen:
            raise ReturnError(f"{file.path.name}: nothing of {case} was asked for in that round.")
        if only is None:
            _check_nothing_is_wiped_out(file, chosen, stands_xyz, labels_xyz, ignore)
        counts_xyz = stands_xyz != ignore if only is None else np.zeros(shape, bool)
        for region in chosen:
            counts_xyz[to_slices(region.box)] = True
        changed_xyz = counts_xyz & (labels_xyz != stands_xyz)
        changed = int(changed_xyz.sum())
        if not changed:
            said = ("It says what is annotated already.",)
            return Outcome(file.path, case, file.reader, context.number, KNOWN, sentences=said)
        regions = tuple(region for region in chosen if changed_xyz[to_slices(region.box)].any())
        correction = CaseAnnotation(np.where(changed_xyz, labels_xyz, ignore), properties, hash_file(file.path))
        sentence = f"{case}: {count(changed, 'voxel')} of what was annotated before got another label."
        taken = {case: correction}
        ledger.append(context.number, CORRECTION, file.reader, regions, taken, (sentence,), collected=now())
    return Outcome(file.path, case, file.reader, context.number, ACCEPTED, len(regions), sentences=(sentence,))


def _check_nothing_is_wiped_out(
    file: ReturnedFile, regions: Collection[Region], stands_xyz: np.ndarray, labels_xyz: np.ndarray, ignore: int
) -> None:
    for region in regions:
        inside = to_slices(region.box)
        drawn = (stands_xyz[inside] != 0) & (stands_xyz[inside] != ignore)
        if drawn.any() and not labels_xyz[inside].any():
            raise ReturnError(
                f"{file.path.name} has nothing in the region {region.name}, where something is annotated: a correction "
                "holds all regions of the case; with -round K those of that batch alone are corrected."
            )
