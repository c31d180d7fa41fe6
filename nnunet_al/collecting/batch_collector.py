"""Take returned files of a batch into the ledger: what the gate accepts is committed, the rest gets its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from nnunet_al.annotation.import_check import Reading, check_returned
from nnunet_al.annotation.segments import segments_of
from nnunet_al.campaign.commits import READER, READING, Commit
from nnunet_al.campaign.ledger import CaseAnnotation
from nnunet_al.collecting.handed_batch import HandedBatch, HandedCase
from nnunet_al.collecting.open_ledger import OpenLedger
from nnunet_al.collecting.returned_files import ReturnedFile
from nnunet_al.errors import ReturnError
from nnunet_al.files import hash_file
from nnunet_al.pool.boxes import Region, to_slices
from nnunet_al.rounds.context import RoundContext

ACCEPTED, IN_PART, KEPT, KNOWN, REFUSED = "accepted", "in part", "kept", "known", "refused"
"""What becomes of a file: taken; taken but for something; kept beside the annotation that stands; taken before; not."""


@dataclass(frozen=True)
class Outcome:
    """What became of one returned file.

    ``regions`` of it are in the ledger by now; ``edits_outside`` and ``disagreements`` are the gate's (see `Reading`);
    ``sentences`` say why, or what to know.
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
        self, context: RoundContext, batch: HandedBatch, regions: Sequence[Region], ledger: OpenLedger
    ) -> None:
        """Take files of ``batch``, which asks for ``regions`` by rank, into ``ledger``."""
        self._context = context
        self._batch = batch
        self._regions = regions
        self._ledger = ledger
        self._segments = segments_of(context.data.dataset.labels)

    def take(self, file: ReturnedFile) -> Outcome:
        """Take one file, or refuse it with a reason.

        Raises
        ------
        CampaignError, StorageError
            if the ledger is not in order or cannot be written.
        """
        try:
            if file.problem is not None:
                raise ReturnError(file.problem)
            if file.case is None:
                raise ReturnError(f"{file.path.name} bears the name of no case of this batch: name it as the image.")
            if file.case not in self._context.decided.pool_cases:
                raise ReturnError(f"The case {file.case} was withdrawn from the campaign: nothing of it is taken.")
            return self._take(file, file.case)
        except ReturnError as error:
            return Outcome(
                file.path, file.case or "", file.reader, self._context.number, REFUSED, sentences=(str(error),)
            )

    def _take(self, file: ReturnedFile, case: str) -> Outcome:
        digest = hash_file(file.path)
        before = self._taken(file.reader, case, digest)
        marked = file.reviewed or list(file.reviews)
        if before.issuperset(self._regions[rank - 1] for rank in marked):
            return self._known(file, case, len(before))
        handed = self._batch.case(case)
        # reading the file takes its time, in which others may use the ledger
        reading = check_returned(
            file.path, handed.asked, self._segments, file.reviewed, self._batch.others(case), file.names
        )
        annotation = CaseAnnotation(handed.axes.from_file(reading.labels_kji), handed.properties, digest)
        with self._ledger.held():
            self._check_bytes(file, handed, annotation, reading.ranks)
            return self._commit(file, case, reading, annotation)

    def _commit(self, file: ReturnedFile, case: str, reading: Reading, annotation: CaseAnnotation) -> Outcome:
        """Append what is new of a file."""
        regions = {rank: self._regions[rank - 1] for rank in reading.ranks}
        own = [c for c in self._ledger.commits if c.reader == file.reader and case in c.labels]
        answered_by_self = {region for commit in own for region in commit.regions}
        new = [rank for rank, region in regions.items() if region not in answered_by_self]
        known = [rank for rank in regions if rank not in new]
        conflicts = [rank for rank in known if self._differs(own, regions[rank], annotation.labels_xyz)]
        several = self._context.decided.readings > 1
        answered = {region for commit in self._ledger.commits if commit.counts for region in commit.regions}
        stands = [rank for rank in new if several or regions[rank] in answered]
        sentences = list(reading.remarks)
        for source, ranks in ((READER, [rank for rank in new if rank not in stands]), (READING, stands)):
            if ranks:
                some = tuple(regions[rank] for rank in ranks)
                sentences += self._append(source, file, case, some, annotation, file.minutes(ranks))
        if conflicts:
            sentences.append(
                f"Rank {', '.join(map(str, conflicts))} was taken from {file.reader} before with other labels, which "
                "stand: give a correction with --correct -i FOLDER."
            )
        if not new and not conflicts:
            return self._known(file, case, len(known))
        if conflicts:
            state = IN_PART if len(conflicts) < len(regions) else REFUSED
        else:
            state = KEPT if len(stands) == len(new) and not several else ACCEPTED
        return Outcome(
            file.path,
            case,
            file.reader,
            self._context.number,
            state,
            len(regions) - len(conflicts),
            reading.edits_outside,
            reading.disagreements,
            tuple(sentences),
        )

    def _append(
        self,
        source: str,
        file: ReturnedFile,
        case: str,
        regions: tuple[Region, ...],
        annotation: CaseAnnotation,
        minutes: float | None,
    ) -> list[str]:
        """Append a commit of these regions; return a sentence on what stands against it, if anything does."""
        ignore = self._context.ignore
        labels_xyz = inside_of(regions, annotation.labels_xyz, ignore)
        earlier_xyz = self._ledger.labels(case, labels_xyz.shape)
        both_xyz = (labels_xyz != ignore) & (earlier_xyz != ignore)
        differing = int((both_xyz & (labels_xyz != earlier_xyz)).sum())
        sentences = []
        if differing:
            sentences.append(f"{case}: {differing} voxels differ from what was annotated before, which stands.")
        if source == READER:  # what was annotated before is no part of it; a reading is kept whole, to be compared
            labels_xyz = np.where(both_xyz, ignore, labels_xyz)
        taken = {case: CaseAnnotation(labels_xyz, annotation.properties, annotation.returned)}
        self._ledger.append(self._context.number, source, file.reader, regions, taken, tuple(sentences), minutes, now())
        return sentences

    def _taken(self, reader: str, case: str, digest: str) -> set[Region]:
        """Return the regions that this very file of this reader has answered before."""
        return {
            region
            for commit in self._ledger.commits
            if commit.reader == reader and case in commit.labels and commit.labels[case].returned == digest
            for region in commit.regions
            if region.case == case
        }

    def _known(self, file: ReturnedFile, case: str, regions: int) -> Outcome:
        late = ""
        if file.minutes(file.reviews) is not None:
            own = [c for c in self._ledger.commits if c.reader == file.reader and case in c.labels]
            late = "" if any(c.minutes is not None for c in own) else " Minutes that came later are not recorded."
        sentences = (f"It was taken before.{late}",)
        return Outcome(file.path, case, file.reader, self._context.number, KNOWN, regions, sentences=sentences)

    def _check_bytes(
        self, file: ReturnedFile, handed: HandedCase, annotation: CaseAnnotation, ranks: Sequence[int]
    ) -> None:
        """Refuse a file that was returned before under another case's name, or as another reader's reading.

        Two files in which nothing is drawn, or nothing was changed, may well be the same.
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
                        f"{file.path.name} is the very file that was taken for {other}: return {asked.case}'s own."
                    )
                once_more = commit.reader != file.reader and not regions.isdisjoint(commit.regions)
                if once_more and changed and self._context.decided.readings > 1:
                    raise ReturnError(
                        f"{file.path.name} is the very file of {commit.reader}: independent readings are drawn apart."
                    )

    def _differs(self, own: Sequence[Commit], region: Region, labels_xyz: np.ndarray) -> bool:
        """Tell whether a file says of a region neither what its reader said before nor what is annotated by now."""
        ignore, inside = self._context.ignore, to_slices(region.box)
        file = labels_xyz[inside]
        said = [self._ledger.volume(commit, region.case)[inside] for commit in own if region in commit.regions]
        stands = self._ledger.labels(region.case, labels_xyz.shape)[inside]
        return all(bool(((known != file) & (known != ignore) & (file != ignore)).any()) for known in [*said, stands])


def inside_of(regions: Sequence[Region], labels_xyz: np.ndarray, ignore: int) -> np.ndarray:
    """Return the labels inside the regions, ``ignore`` elsewhere."""
    result_xyz = np.full(labels_xyz.shape, ignore, np.int32)
    for region in regions:
        inside = to_slices(region.box)
        result_xyz[inside] = labels_xyz[inside]
    return result_xyz


def now() -> str:
    """Return the time at which something was collected, in ISO 8601."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
