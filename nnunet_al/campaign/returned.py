"""What readers have put into a batch folder: which files, whose they are, and what is marked as reviewed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_al.annotation.monailabel_labels import returned_labels
from nnunet_al.annotation.review_sheet import Review, read_sheet
from nnunet_al.annotation.volumes import stem_of
from nnunet_al.errors import ReturnError
from nnunet_al.pool.boxes import Region

NOBODY = "reader"
"""Who annotated where nobody says who."""

SHEET = "batch.csv"
_TABLES = (".csv", ".txt", ".ctbl", ".label", ".raw", ".zraw", ".md", ".json", ".mrml")
_READER = re.compile(r"[^/\\\x00-\x1f]{1,64}")


@dataclass(frozen=True)
class ReturnedFile:
    """One file that a reader returned.

    Attributes
    ----------
    path : the file
    case : the case that it is named by; None where that is none of the batch
    reader : who annotated
    reviews : rank of a region of the case -> what the reader says of it
    names : voxel value -> segment name, where not the file but MONAI Label knows it
    problem : a sentence that keeps the file from being taken; None where it can be looked at
    """

    path: Path
    case: str | None
    reader: str
    reviews: Mapping[int, Review] = field(default_factory=dict)
    names: Mapping[int, str] | None = None
    problem: str | None = None

    @property
    def reviewed(self) -> list[int]:
        """Ranks of the regions that are marked as reviewed."""
        return sorted(rank for rank, review in self.reviews.items() if review.reviewed)

    def minutes(self, ranks: Iterable[int]) -> float | None:
        """Return the reader's time for some regions; None where nothing of it is known."""
        known = [review.minutes for rank in ranks if (review := self.reviews[rank]).minutes is not None]
        return sum(minutes for minutes in known if minutes is not None) if known else None


def check_reader(reader: str) -> str:
    """Return a reader's name as the ledger keeps it.

    Raises
    ------
    ReturnError
        if it cannot stand in a file's name.
    """
    name = reader.strip()
    if not _READER.fullmatch(name):
        raise ReturnError(f"-reader {reader!r}: give a name of up to 64 letters without slashes, or a pseudonym.")
    return name


def find_returned(
    batch_folder: Path,
    regions: Sequence[Region],
    source: Path | None = None,
    reader: str | None = None,
    all_reviewed: bool = False,
) -> list[ReturnedFile]:
    """List the files that readers returned, sorted by reader and name; nothing is read but the tables of marks.

    Parameters
    ----------
    batch_folder
        the hand-out; files lie in its ``returned/``, a reader's own in ``returned/<reader>/``
    regions
        the regions of the batch by rank, the first of which is rank 1
    source
        look into this folder instead
    reader
        who annotated all of it; else the name of the reader's folder
    all_reviewed
        every region of each file was reviewed, whatever the tables say
    """
    base = source if source is not None else batch_folder / "returned"
    folders = [base, *(path for path in sorted(base.glob("*")) if path.is_dir() and not path.name.startswith("."))]
    found = []
    for folder in folders if base.is_dir() else []:
        who = reader or (NOBODY if folder == base else folder.name)
        marks = _marks([folder, base, batch_folder])
        found += _strangers(folder / SHEET, who, regions)
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.name.startswith((".", "~")) and not _is_aside(path):
                found.append(_returned(path, who, marks, regions, all_reviewed))
    return found


def find_submitted(batch_folder: Path, regions: Sequence[Region], reader: str | None = None) -> list[ReturnedFile]:
    """List the labels that readers submitted to the MONAI Label server of a batch folder.

    Submitting answers for all regions of the case; ``batch.csv`` is looked at for the reader's time only.
    """
    try:
        labels = returned_labels(batch_folder)
    except ReturnError as error:
        return [ReturnedFile(batch_folder, None, NOBODY, problem=str(error))]
    marks = _marks([batch_folder])
    noted = {} if isinstance(marks, ReturnError) else {key: review.minutes for key, review in marks.items()}
    found = []
    for label in labels:
        ranks = [rank for rank, region in enumerate(regions, start=1) if region.case == label.case]
        share = None if label.minutes is None or not ranks else label.minutes / len(ranks)
        minutes = {rank: share if (own := noted.get((label.case, rank))) is None else own for rank in ranks}
        found.append(
            ReturnedFile(
                label.path,
                label.case if ranks else None,
                reader or label.reader or NOBODY,
                {rank: Review(label.reviewed, minutes[rank]) for rank in ranks},
                label.names,
                None if label.reviewed else " ".join(label.remarks) or None,
            )
        )
    return found


def _strangers(sheet: Path, reader: str, regions: Sequence[Region]) -> list[ReturnedFile]:
    """Name a row of a table that marks what is none of the batch: spreadsheets make 1 of a case called 001."""
    marks = _marks([sheet.parent])
    if isinstance(marks, ReturnError):
        return [ReturnedFile(sheet, None, reader, problem=str(marks))]
    known = {(region.case, rank) for rank, region in enumerate(regions, start=1)}
    wrong = [key for key, review in marks.items() if review.reviewed and key not in known]
    if not wrong:
        return []
    case, rank = wrong[0]
    sentence = f"{sheet.name} marks rank {rank} of the case {case!r} as reviewed, which is none of this batch: "
    return [ReturnedFile(sheet, None, reader, problem=f"{sentence}keep both columns as they were handed out.")]


def _is_aside(path: Path) -> bool:
    return stem_of(path) is None and path.name.lower().endswith(_TABLES)


def _marks(folders: Sequence[Path]) -> Mapping[tuple[str, int], Review] | ReturnError:
    """Read the first table of marks that there is; the problem with it is that of every file beside it."""
    for folder in folders:
        if (folder / SHEET).is_file():
            try:
                return read_sheet(folder / SHEET)
            except ReturnError as error:
                return error
    return {}


def _returned(
    path: Path,
    reader: str,
    marks: Mapping[tuple[str, int], Review] | ReturnError,
    regions: Sequence[Region],
    all_reviewed: bool,
) -> ReturnedFile:
    stem, cases = stem_of(path), {region.case for region in regions}
    if stem is None:
        return ReturnedFile(
            path, None, reader, problem=f"{path.name} is no segmentation: save it as .seg.nrrd or .nii.gz."
        )
    alike = [case for case in cases if case == stem] or [case for case in cases if case.lower() == stem.lower()]
    if len(alike) != 1:
        sentence = f"{path.name} bears the name of no case of this batch: name it as the image, such as "
        return ReturnedFile(path, None, reader, problem=f"{sentence}{min(cases)}.seg.nrrd.")
    (case,) = alike
    ranks = [rank for rank, region in enumerate(regions, start=1) if region.case == case]
    if isinstance(marks, ReturnError):
        if not all_reviewed:
            return ReturnedFile(path, case, reader, problem=str(marks))
        marks = {}
    reviews = {rank: marks.get((case, rank), Review(False, None)) for rank in ranks}
    if all_reviewed:
        reviews = {rank: Review(True, review.minutes) for rank, review in reviews.items()}
    return ReturnedFile(path, case, reader, reviews)
