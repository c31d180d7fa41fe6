"""Check the returned files of a batch: accepted regions enter the ledger, refused files get a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nnunet_al.annotation.import_check import Reading, check_returned
from nnunet_al.annotation.segments import segments_of
from nnunet_al.annotation.volumes import has_names_beside
from nnunet_al.annotation.voxel_files import voxel_files
from nnunet_al.campaign.commits import READER, READING, Commit
from nnunet_al.campaign.ledger import CaseAnnotation
from nnunet_al.collecting.handed_out_batch import HandedOutBatch, HandedOutCase
from nnunet_al.collecting.open_ledger import OpenLedger
from nnunet_al.collecting.returned_files import ReturnedFile
from nnunet_al.errors import ReturnError
from nnunet_al.pool.boxes import Region, to_slices
from nnunet_al.rounds.context import RoundContext

ACCEPTED, IN_PART, KEPT, KNOWN, REFUSED = "accepted", "in part", "kept", "known", "refused"
"""Outcome of a file: taken; taken in part; kept beside the annotation, which does not change; taken before; refused."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one returned file.

    Attributes
    ----------
    state : one of the five outcomes above
    regions : number of its regions that are in the ledger
    edits_outside, disagreements : as in `Reading`
    sentences : reasons and remarks
    """

    path: Path
    case: str
    reader: str
    round: int
    state: str
    regions: int = 0
    edits_outside: int | None = None
    disagreements: int | None = None
    sentences: tuple[str, ...] = ()


class BatchCollector:
    """Takes the files of one batch, one after the other."""

    def __init__(
        self, context: RoundContext, batch: HandedOutBatch, regions: Sequence[Region], ledger: OpenLedger
    ) -> None:
        """Take files of ``batch``, whose ``regions`` are in order of rank, into ``ledger``."""
        self._context = context
        self._batch = batch
        self._regions = regions
        self._ledger = ledger
        self._segments = segments_of(context.data.dataset.labels)

    def take(self, file: ReturnedFile) -> Outcome:
        """Take one file, or refuse it with a reason.

        Raises CampaignError, StorageError if the ledger is broken or cannot be written.
        """
        try:
            if file.problem is not None:
                raise ReturnError(file.problem)
            if file.case is None:
                raise ReturnError(f"{file.path.name} is not named after a case of this batch: name it as the image.")
            if file.case not in self._context.decided.pool_cases:
                raise ReturnError(f"The case {file.case} was withdrawn from the campaign, so its files are not taken.")
            return self._take(file, file.case)
        except ReturnError as error:
            return Outcome(
                file.path, file.case or "", file.reader, self._context.number, REFUSED, sentences=(str(error),)
            )

    def _take(self, file: ReturnedFile, case: str) -> Outcome:
        digest = voxel_files(file.path).hash()
        before = self._regions_taken_before(file.reader, case, digest)
        marked = file.reviewed or list(file.reviews)
        is_known = before.issuperset(self._regions[rank - 1] for rank in marked)
        if is_known and not has_names_beside(file.path):  # names in a table may be others than they were
            return self._already_taken(file, case, len(before))
        handed = self._batch.case(case)
        # the slow reading is done without the lock, so that other processes can use the ledger
        reading = check_returned(
            file.path, handed.asked, self._segments, file.reviewed, self._batch.other_cases(case), file.names
        )
        annotation = CaseAnnotation(handed.axes.from_file(reading.labels_kji), handed.properties, digest)
        with self._ledger.locked():
            self._refuse_duplicate(file, handed, annotation, reading.ranks)
            return self._commit(file, case, reading, annotation)

    def _commit(self, file: ReturnedFile, case: str, reading: Reading, annotation: CaseAnnotation) -> Outcome:
        """Append the regions of a file that its reader has not answered before."""
        regions = {rank: self._regions[rank - 1] for rank in reading.ranks}
        earlier = [c for c in self._ledger.commits if c.reader == file.reader and case in c.labels]
        answered_by_reader = {region for commit in earlier for region in commit.regions}
        new = [rank for rank, region in regions.items() if region not in answered_by_reader]
        known = [rank for rank in regions if rank not in new]
        conflicts = [rank for rank in known if self._contradicts(earlier, regions[rank], annotation.labels_xyz)]
        several = self._context.decided.readings > 1
        answered = self._ledger.answered
        as_reading = [rank for rank in new if several or regions[rank] in answered]
        sentences = list(reading.remarks)
        for source, ranks in ((READER, [rank for rank in new if rank not in as_reading]), (READING, as_reading)):
            if ranks:
                some = tuple(regions[rank] for rank in ranks)
                sentences += self._append(source, file, case, some, annotation, file.minutes(ranks))
        if conflicts:
            sentences.append(
                f"Rank {', '.join(map(str, conflicts))} was taken from {file.reader} before with other labels, which "
                "are kept: give a correction with --correct -i FOLDER."
            )
        if not new and not conflicts:
            return self._already_taken(file, case, len(known))
        if conflicts:
            state = IN_PART if len(conflicts) < len(regions) else REFUSED
        else:
            state = KEPT if len(as_reading) == len(new) and not several else ACCEPTED
        outcome = Outcome(file.path, case, file.reader, self._context.number, state, len(regions) - len(conflicts))
        edits, disagreements = reading.edits_outside, reading.disagreements
        return replace(outcome, edits_outside=edits, disagreements=disagreements, sentences=tuple(sentences))

    def _append(
        self,
        source: str,
        file: ReturnedFile,
        case: str,
        regions: tuple[Region, ...],
        annotation: CaseAnnotation,
        minutes: float | None,
    ) -> list[str]:
        """Append a commit of these regions; return a sentence on voxels that differ from the annotation, if any do."""
        ignore = self._context.ignore
        labels_xyz = labels_in_regions(regions, annotation.labels_xyz, ignore)
        earlier_xyz = self._ledger.labels(case, labels_xyz.shape)
        both_xyz = (labels_xyz != ignore) & (earlier_xyz != ignore)
        differing = int((both_xyz & (labels_xyz != earlier_xyz)).sum())
        sentences = []
        if differing:
            sentences.append(f"{case}: {differing} voxels differ from the earlier annotation, which is kept.")
        if source == READER:  # annotated voxels are left out; a reading is kept whole, for comparison
            labels_xyz = np.where(both_xyz, ignore, labels_xyz)
        taken = {case: CaseAnnotation(labels_xyz, annotation.properties, annotation.returned)}
        self._ledger.append(self._context.number, source, file.reader, regions, taken, tuple(sentences), minutes)
        return sentences

    def _regions_taken_before(self, reader: str, case: str, digest: str) -> set[Region]:
        """Return the regions that this reader has answered before with an identical file."""
        return {
            region
            for commit in self._ledger.commits
            if commit.reader == reader and case in commit.labels and commit.labels[case].returned == digest
            for region in commit.regions
            if region.case == case
        }

    def _already_taken(self, file: ReturnedFile, case: str, regions: int) -> Outcome:
        late = ""
        if file.minutes(file.reviews) is not None:
            earlier = [c for c in self._ledger.commits if c.reader == file.reader and case in c.labels]
            late = "" if any(c.minutes is not None for c in earlier) else " Minutes added later are not recorded."
        sentences = (f"It was taken before.{late}",)
        return Outcome(file.path, case, file.reader, self._context.number, KNOWN, regions, sentences=sentences)

    def _refuse_duplicate(
        self, file: ReturnedFile, handed: HandedOutCase, annotation: CaseAnnotation, ranks: Sequence[int]
    ) -> None:
        """Refuse a file that was returned before under another case's name, or as another reader's reading.

        Files without foreground, and unchanged pre-segmentations, may be identical.
        """
        asked, ignore = handed.asked, self._context.ignore
        labels_kji = handed.axes.to_file(annotation.labels_xyz)
        if not ((labels_kji != 0) & (labels_kji != ignore)).any():
            return
        changed = bool(((labels_kji != asked.handed_out_kji) & (labels_kji != ignore)).any())
        regions = {self._regions[rank - 1] for rank in ranks}
        for commit in self._ledger.commits:
            for other, entry in commit.labels.items():
                if entry.returned != annotation.returned:
                    continue
                if other != asked.case:
                    raise ReturnError(
                        f"{file.path.name} is identical to the file of {other}: return the file of {asked.case}."
                    )
                once_more = commit.reader != file.reader and not regions.isdisjoint(commit.regions)
                if once_more and changed and self._context.decided.readings > 1:
                    raise ReturnError(
                        f"{file.path.name} is identical to the file of {commit.reader}: return an independent reading."
                    )

    def _contradicts(self, earlier: Sequence[Commit], region: Region, labels_xyz: np.ndarray) -> bool:
        """Whether a file differs in a region from its reader's ``earlier`` labels and from the present annotation."""
        ignore, inside = self._context.ignore, to_slices(region.box)
        file = labels_xyz[inside]
        known = [self._ledger.volume(commit, region.case)[inside] for commit in earlier if region in commit.regions]
        known.append(self._ledger.labels(region.case, labels_xyz.shape)[inside])
        return all(bool(((labels != file) & (labels != ignore) & (file != ignore)).any()) for labels in known)


def labels_in_regions(regions: Sequence[Region], labels_xyz: np.ndarray, ignore: int) -> np.ndarray:
    """Return the labels inside the regions, ``ignore`` elsewhere."""
    result_xyz = np.full(labels_xyz.shape, ignore, np.int32)
    for region in regions:
        inside = to_slices(region.box)
        result_xyz[inside] = labels_xyz[inside]
    return result_xyz
