"""Take back what readers returned: what the gate accepts becomes part of the ledger, the rest gets its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from nnunet_al.annotation.fusion import fuse
from nnunet_al.annotation.gate import Asked, examine
from nnunet_al.annotation.segments import segments_of
from nnunet_al.campaign.batch import asked_regions
from nnunet_al.campaign.context import RoundContext
from nnunet_al.campaign.hand_out import grid_of, handed_labels
from nnunet_al.campaign.ledger import READING, CaseAnnotation, Commit, Ledger
from nnunet_al.campaign.returned import ReturnedFile
from nnunet_al.errors import ReturnError
from nnunet_al.files import hash_file
from nnunet_al.nnunet.file_axes import file_axes
from nnunet_al.pool.boxes import Region, to_slices
from nnunet_al.progress import count

ACCEPTED, KNOWN, KEPT, REFUSED = "accepted", "known", "kept", "refused"
"""What becomes of a file: taken; taken before; kept beside the annotation that stands; left where it is."""


@dataclass(frozen=True)
class Outcome:
    """What became of one returned file: ``regions`` of it were taken now, ``sentences`` say why, or what to know."""

    path: Path
    case: str
    reader: str
    round: int
    state: str
    regions: int
    sentences: tuple[str, ...]


class BatchCollector:
    """Takes the files of one batch into a ledger, one after the other."""

    def __init__(self, context: RoundContext, ledger: Ledger) -> None:
        """Take the batch of ``context``'s round into ``ledger``."""
        self._context = context
        self._ledger = ledger
        self._commits = ledger.commits()
        self._regions = asked_regions(context.round)
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
            if file.case in self._context.decided.withdrawn_cases:
                raise ReturnError(f"The case {file.case} was withdrawn from the campaign: nothing of it is taken.")
            return self._take(file, file.case)
        except ReturnError as error:
            return self._outcome(file, REFUSED, 0, [str(error)])

    def _take(self, file: ReturnedFile, case: str) -> Outcome:
        own = [commit for commit in self._commits if commit.reader == file.reader]
        digest = hash_file(file.path)
        taken = {
            region
            for commit in own
            if case in commit.labels and commit.labels[case].returned == digest
            for region in commit.regions
        }
        if taken.issuperset(self._regions[rank - 1] for rank in file.reviewed or file.reviews):
            return self._outcome(file, KNOWN, 0, ["It was taken before."])
        returned = _CaseOfBatch(self._context, case, self._regions)
        # before there is a model all cases were handed out empty, and none looks like another
        others = _Others(self._context, self._regions) if self._context.number else {}
        reading = examine(file.path, returned.asked, self._segments, file.reviewed, others, file.names)
        labels_xyz = returned.axes.from_file(reading.labels_kji)
        new, conflicts = [], []
        for rank in reading.ranks:
            region = self._regions[rank - 1]
            before = next((commit for commit in own if region in commit.regions and case in commit.labels), None)
            if before is None:
                new.append(rank)
            elif self._differs(before, region, labels_xyz):
                conflicts.append(region)
        sentences = list(reading.remarks)
        if conflicts:
            names = ", ".join(region.name for region in conflicts)
            sentences.append(
                f"{names} was taken from {file.reader} before with other labels, which stand: give a correction with "
                "--correct -i FOLDER."
            )
        if not new:
            state = REFUSED if conflicts else KNOWN
            return self._outcome(file, state, 0, sentences if conflicts else ["It was taken before."])
        annotation = CaseAnnotation(labels_xyz, returned.properties, digest)
        kept, fused = self._commit(file, case, new, annotation)
        state = REFUSED if conflicts else KEPT if kept else ACCEPTED
        return self._outcome(file, state, len(new), sentences + fused)

    def _differs(self, before: Commit, region: Region, labels_xyz: np.ndarray) -> bool:
        """Tell whether a reader's file says something else of a region than what was taken from the reader before."""
        inside = to_slices(region.box)
        taken = self._ledger.volume(before, region.case)[inside]
        now = labels_xyz[inside]
        return bool(((taken != now) & (taken != self._context.ignore)).any())

    def _commit(
        self, file: ReturnedFile, case: str, ranks: Sequence[int], annotation: CaseAnnotation
    ) -> tuple[bool, list[str]]:
        """Append what is new; return whether it is only kept beside what stands, and sentences about it."""
        answered = {region for commit in self._commits if commit.counts for region in commit.regions}
        several = self._context.decided.readings > 1
        sentences: list[str] = []
        groups = {
            "reader": [rank for rank in ranks if not several and self._regions[rank - 1] not in answered],
            READING: [rank for rank in ranks if several or self._regions[rank - 1] in answered],
        }
        for source, some in groups.items():
            if not some:
                continue
            regions = tuple(self._regions[rank - 1] for rank in some)
            labels_xyz = _inside(annotation.labels_xyz, regions, self._context.ignore)
            earlier_xyz = self._ledger.labels(case, labels_xyz.shape, self._commits)
            both_xyz = (labels_xyz != self._context.ignore) & (earlier_xyz != self._context.ignore)
            differing = int((both_xyz & (labels_xyz != earlier_xyz)).sum())
            disagreements: tuple[str, ...] = ()
            if differing:
                disagreements = (f"{case}: {differing} voxels differ from what was annotated before, which stands.",)
            if source == "reader":
                labels_xyz = np.where(both_xyz, self._context.ignore, labels_xyz)
            taken = CaseAnnotation(labels_xyz, annotation.properties, annotation.returned)
            self._append(source, file.reader, regions, {case: taken}, disagreements, file.minutes(some))
            sentences += disagreements
        sentences += self._agree(case, [self._regions[rank - 1] for rank in groups[READING]], annotation)
        return bool(groups[READING]) and not groups["reader"] and not several, sentences

    def _agree(self, case: str, regions: Sequence[Region], annotation: CaseAnnotation) -> list[str]:
        """Make one annotation of several readings where there are as many as the campaign asks for."""
        wanted, sentences = self._context.decided.readings, list[str]()
        waiting: Counter[int] = Counter()
        ready: dict[tuple[str, ...], list[Region]] = {}
        for region in regions:
            if any(commit.counts and region in commit.regions for commit in self._commits):
                continue
            readers = tuple(sorted({c.reader for c in self._commits if c.source == READING and region in c.regions}))
            if len(readers) < wanted:
                waiting[wanted - len(readers)] += 1
            else:
                ready.setdefault(readers, []).append(region)
        for missing, number in sorted(waiting.items()):
            sentences.append(f"{count(number, 'region')} of it: {missing} of {wanted} readings still missing.")
        for readers, some in ready.items():
            sentences.append(self._consensus(case, readers, tuple(some), annotation))
        return sentences

    def _consensus(
        self, case: str, readers: Sequence[str], regions: tuple[Region, ...], annotation: CaseAnnotation
    ) -> str:
        ignore, shape = self._context.ignore, annotation.labels_xyz.shape
        volumes = []
        for reader in readers:
            readings = [c for c in self._commits if c.source == READING and c.reader == reader and case in c.labels]
            labels_xyz = np.full(shape, ignore, np.int32)
            for commit in readings:
                own = [region for region in regions if region in commit.regions]
                taken_xyz = _inside(self._ledger.volume(commit, case), own, ignore)
                np.copyto(labels_xyz, taken_xyz, where=taken_xyz != ignore)
            volumes.append(labels_xyz)
        consensus = fuse(volumes, self._context.decided.consensus, ignore)
        earlier_xyz = self._ledger.labels(case, shape, self._commits)
        labels_xyz = np.where(earlier_xyz != ignore, ignore, consensus.labels_kji)
        names = {segment.value: segment.name for segment in self._segments}
        dice = ", ".join(f"{names.get(v, v)} {share:.3f}" for v, share in sorted(consensus.agreement.items()))
        sentence = (
            f"{case}: {' and '.join(readers)} differ in {consensus.differing_voxels} voxels of "
            + count(len(regions), "region")
            + (f" (Dice between them: {dice})" if dice else "")
            + (f"; {consensus.undecided_voxels} voxels stay unannotated." if consensus.undecided_voxels else ".")
        )
        taken = {case: CaseAnnotation(labels_xyz, annotation.properties)}
        self._append("consensus", " + ".join(readers), regions, taken, (sentence,), None)
        return sentence

    def _append(
        self,
        source: str,
        reader: str,
        regions: tuple[Region, ...],
        annotations: Mapping[str, CaseAnnotation],
        disagreements: tuple[str, ...],
        minutes: float | None,
    ) -> None:
        commit = self._ledger.append(
            self._context.number, source, reader, regions, annotations, disagreements, minutes, now()
        )
        self._commits.append(commit)

    def _outcome(self, file: ReturnedFile, state: str, regions: int, sentences: Sequence[str]) -> Outcome:
        number = self._context.number
        return Outcome(file.path, file.case or "", file.reader, number, state, regions, tuple(sentences))


def now() -> str:
    """Return the time at which something was collected, in ISO 8601."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


class _CaseOfBatch:
    """What was handed out of a case, on the file's axes, and the way back to the axes of nnU-Net's reader."""

    def __init__(self, context: RoundContext, case: str, regions: Sequence[Region]) -> None:
        dataset, facts = context.data.dataset, context.data.facts[case]
        files = dataset.cases[case]
        grid = grid_of(files)
        self.properties = context.label_format.image_properties(files.images)
        self.axes = file_axes(context.label_format, facts.raw_shape, self.properties, dataset.file_ending)
        earlier_xyz = context.ledger.labels(case, facts.raw_shape, context.commits)
        self.asked = Asked(
            case=case,
            grid=grid,
            handed_out_kji=handed_labels(context.round.hand_out, case, grid),
            earlier_kji=np.ascontiguousarray(self.axes.to_file(earlier_xyz)),
            ignore=context.ignore,
            boxes={
                rank: self.axes.box_to_file(region.box, facts.raw_shape)
                for rank, region in enumerate(regions, start=1)
                if region.case == case
            },
        )


class _Others(Mapping[str, Asked]):
    """What was handed out of each case of the batch, read when it is asked for."""

    def __init__(self, context: RoundContext, regions: Sequence[Region]) -> None:
        self._context = context
        self._regions = regions
        self._cases = sorted({region.case for region in regions} - set(context.decided.withdrawn_cases))

    def __getitem__(self, case: str) -> Asked:
        return _CaseOfBatch(self._context, case, self._regions).asked

    def __iter__(self) -> Iterator[str]:
        return iter(self._cases)

    def __len__(self) -> int:
        return len(self._cases)


def _inside(labels_xyz: np.ndarray, regions: Sequence[Region], ignore: int) -> np.ndarray:
    """Return the labels inside the regions, ``ignore`` elsewhere."""
    result_xyz = np.full(labels_xyz.shape, ignore, np.int32)
    for region in regions:
        inside = to_slices(region.box)
        result_xyz[inside] = labels_xyz[inside]
    return result_xyz
