"""Corrections of collected labels: a new commit overrides the earlier ones, which stay in the ledger."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from nnunet_al.annotation.expected_case import ExpectedCase
from nnunet_al.annotation.grids import are_one_grid, read_grid
from nnunet_al.annotation.import_check import check_returned
from nnunet_al.annotation.label_overlap import mean_dice
from nnunet_al.annotation.segments import segments_of
from nnunet_al.annotation.swapped_cases import OTHER_CASE, SAME_CASE
from nnunet_al.annotation.voxel_files import voxel_files
from nnunet_al.campaign.commits import CORRECTION
from nnunet_al.campaign.ledger import CaseAnnotation
from nnunet_al.collecting.batch_collector import ACCEPTED, KNOWN, REFUSED, Outcome
from nnunet_al.collecting.open_ledger import OpenLedger
from nnunet_al.collecting.returned_files import ReturnedFile
from nnunet_al.errors import ReturnError
from nnunet_al.nnunet.file_axes import file_axes
from nnunet_al.pool.boxes import Region, to_slices, whole
from nnunet_al.rounds.context import RoundContext
from nnunet_al.text import count


def take_correction(
    context: RoundContext, ledger: OpenLedger, file: ReturnedFile, only: Collection[Region] | None = None
) -> Outcome:
    """Replace the annotated labels of a case by those of a corrected label file of the whole case.

    The file counts at annotated voxels and in all answered regions, where readers may have left voxels undecided; with
    ``only`` in those answered regions alone. Voxels whose label differs from the ledger enter the new commit. The
    checks are those for batches, except that no review mark is needed. Without ``only``, a file without foreground in
    a region with annotated foreground is refused: it may hold the regions of one batch only, and would erase others.
    """
    try:
        if file.problem is not None or file.case is None:
            raise ReturnError(file.problem or f"{file.path.name} is not named after an annotated case.")
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
    asked = ExpectedCase(
        case=case,
        grid=read_grid(dataset.cases[case].images[0]),
        handed_out_kji=np.zeros_like(nothing_kji),  # a correction may differ from the ledger anywhere
        earlier_kji=nothing_kji,
        ignore=ignore,
        boxes={1: whole(nothing_kji.shape)},
    )
    reading = check_returned(file.path, asked, segments_of(dataset.labels), [1], (), file.names)
    labels_xyz = axes.from_file(reading.labels_kji)
    with ledger.locked():
        stands_xyz = ledger.labels(case, shape)
        _refuse_other_case(context, ledger, file, case, labels_xyz, stands_xyz)
        answered = {region for region in ledger.answered if region.case == case}
        chosen = sorted(answered if only is None else answered.intersection(only))
        if only is not None and not chosen:
            raise ReturnError(f"{file.path.name}: no answered region of {case} belongs to that round.")
        if only is None:
            _refuse_emptied_regions(file, chosen, stands_xyz, labels_xyz, ignore)
        counts_xyz = stands_xyz != ignore if only is None else np.zeros(shape, bool)
        for region in chosen:
            counts_xyz[to_slices(region.box)] = True
        changed_xyz = counts_xyz & (labels_xyz != stands_xyz)
        changed = int(changed_xyz.sum())
        if not changed:
            unchanged = ("It agrees with the present annotation.",)
            return Outcome(file.path, case, file.reader, context.number, KNOWN, sentences=unchanged)
        regions = tuple(region for region in chosen if changed_xyz[to_slices(region.box)].any())
        correction = CaseAnnotation(
            np.where(changed_xyz, labels_xyz, ignore), properties, voxel_files(file.path).hash()
        )
        sentence = f"{case}: {count(changed, 'voxel')} got another label than before."
        taken = {case: correction}
        ledger.append(context.number, CORRECTION, file.reader, regions, taken, (sentence,))
    return Outcome(file.path, case, file.reader, context.number, ACCEPTED, len(regions), sentences=(sentence,))


def _refuse_other_case(
    context: RoundContext,
    ledger: OpenLedger,
    file: ReturnedFile,
    case: str,
    labels_xyz: np.ndarray,
    stands_xyz: np.ndarray,
) -> None:
    """Refuse a file that is like the annotation of another case of the same grid, and not like that of its own."""

    def likeness(annotation_xyz: np.ndarray) -> float:
        known_xyz = annotation_xyz != context.ignore
        return mean_dice(np.where(known_xyz, labels_xyz, 0), np.where(known_xyz, annotation_xyz, 0))

    if likeness(stands_xyz) >= OTHER_CASE:
        return
    files, facts = context.data.dataset.cases, context.data.facts
    for other in sorted({other for commit in ledger.commits for other in commit.labels}.intersection(facts)):
        if other == case or facts[other].raw_shape != labels_xyz.shape:
            continue
        if not are_one_grid(read_grid(files[other].images[0]), read_grid(files[case].images[0])):
            continue
        if likeness(ledger.labels(other, labels_xyz.shape)) > SAME_CASE:
            raise ReturnError(
                f"{file.path.name} is like the annotation of {other} and not like that of {case}: give it that case's "
                "name."
            )


def _refuse_emptied_regions(
    file: ReturnedFile, regions: Collection[Region], stands_xyz: np.ndarray, labels_xyz: np.ndarray, ignore: int
) -> None:
    for region in regions:
        inside = to_slices(region.box)
        drawn = (stands_xyz[inside] != 0) & (stands_xyz[inside] != ignore)
        if drawn.any() and not labels_xyz[inside].any():
            raise ReturnError(
                f"{file.path.name} has no foreground in the region {region.name}, where foreground is annotated: give "
                "all regions of the case in a correction, or correct those of one batch with -round K."
            )
