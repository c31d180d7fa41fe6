"""Find the files that readers returned, with their reader, their case and their review marks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_al.annotation.hand_out import RETURNED
from nnunet_al.annotation.manifest import MANIFEST
from nnunet_al.annotation.monailabel_labels import returned_labels
from nnunet_al.annotation.review_sheet import Review
from nnunet_al.annotation.volumes import stem_of
from nnunet_al.collecting.review_marks import ReviewMarks, normalized_name, read_marks
from nnunet_al.errors import ReturnError
from nnunet_al.pool.boxes import Region

UNNAMED_READER = "reader"
"""Reader's name in the ledger if none is given."""

_OTHER_ENDINGS = (".csv", ".txt", ".ctbl", ".label", ".raw", ".zraw", ".md", ".json", ".mrml")
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx"}
_READER = re.compile(r"[^/\\\x00-\x1f]{1,64}")


@dataclass(frozen=True)
class ReturnedFile:
    """One file that a reader returned.

    Attributes
    ----------
    path : the file
    case : the case in the file's name; None if no such case is asked for
    reader : the reader's name
    reviews : rank of a region of the case -> the reader's entries for it
    names : voxel value -> segment name, if given by MONAI Label and not by the file
    problem : a sentence on why the file cannot be collected; None if it can be read
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
        """Return the reader's minutes for some regions; None if none are known."""
        known = [minutes for rank in ranks if (minutes := self.reviews[rank].minutes) is not None]
        return sum(known) if known else None


def check_reader(reader: str) -> str:
    """Check a reader's name and return it without surrounding blanks.

    Raises ReturnError if it is too long, or has characters that file names must not have.
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
    own_marks: bool = False,
) -> list[ReturnedFile]:
    """List the files that readers returned, sorted by reader and name; only the tables of marks are read.

    The files are in ``returned/`` of the batch folder, those of a reader in ``returned/<reader>/``; the folder
    ``source``, or its ``returned/`` if it is a batch folder, is searched instead if given. ``regions`` are those of the
    batch by rank. ``reader`` is the reader of all files instead of the names of the folders. With ``all_reviewed``
    every region of each file counts as reviewed, regardless of the tables. With ``own_marks`` each reader's folder
    needs a table of marks, because one table cannot hold the marks of several readings.
    """
    base = batch_folder / RETURNED if source is None else _returned_in(source)
    found: list[ReturnedFile] = []
    reported: set[Path] = set()
    for folder in [base, *_folders(base)] if base.is_dir() else []:
        who = reader or (UNNAMED_READER if folder == base else folder.name)
        inner = _returned_in(folder)
        shared = [] if own_marks and folder != base else [base, batch_folder]
        marks = read_marks([inner, folder, *shared], regions)
        if marks.path is not None and marks.problem is not None and marks.path not in reported:
            reported.add(marks.path)
            found.append(ReturnedFile(marks.path, None, who, problem=marks.problem))
        for path in sorted(inner.iterdir()):
            if path.is_file() and not _is_no_label(path):
                found.append(_returned(path, who, marks, regions, all_reviewed))
        if folder != base:
            found += [_nested_too_deep(path, who) for path in _nested_files(inner)]
    return found


def find_submitted(batch_folder: Path, regions: Sequence[Region], reader: str | None = None) -> list[ReturnedFile]:
    """List the labels that readers submitted to the MONAI Label server of a batch folder.

    A submitted label answers all regions of the case; ``batch.csv`` is used for the reader's time only.
    """
    try:
        labels = returned_labels(batch_folder)
    except ReturnError as error:
        return [ReturnedFile(batch_folder, None, UNNAMED_READER, problem=str(error))]
    noted = {key: review.minutes for key, review in read_marks([batch_folder], regions).reviews.items()}
    found = []
    for label in labels:
        ranks = [rank for rank, region in enumerate(regions, start=1) if region.case == label.case]
        share = None if label.minutes is None or not ranks else label.minutes / len(ranks)
        minutes = {rank: share if (entered := noted.get((label.case, rank))) is None else entered for rank in ranks}
        found.append(
            ReturnedFile(
                label.path,
                label.case if ranks else None,
                reader or label.reader or UNNAMED_READER,
                {rank: Review(label.reviewed, minutes[rank]) for rank in ranks},
                label.names,
                None if label.reviewed else " ".join(label.remarks) or None,
            )
        )
    return found


def find_corrections(source: Path, cases: Iterable[str], reader: str | None = None) -> list[ReturnedFile]:
    """List the corrected label files in a folder, which are named after annotated cases."""
    cases = list(cases)
    found = []
    for path in sorted(source.iterdir()):
        if not path.is_file() or _is_no_label(path):
            continue
        case = _case_of(path, cases)
        problem = None if case else f"{path.name} is not named after an annotated case: name it as the case."
        found.append(ReturnedFile(path, case, reader or UNNAMED_READER, problem=problem))
    return found


def _returned_in(folder: Path) -> Path:
    """Return the folder of the returned files in ``folder``, which may be a whole batch folder, copied or moved."""
    return folder / RETURNED if (folder / MANIFEST).is_file() else folder


def _folders(base: Path) -> Iterator[Path]:
    for path in sorted(base.iterdir()):
        if path.is_dir() and not path.name.startswith(".") and path.name.lower() not in _SYSTEM_FILES:
            yield path


def _nested_files(folder: Path) -> Iterator[Path]:
    for deeper in _folders(folder):
        yield from (path for path in sorted(deeper.rglob("*")) if path.is_file() and stem_of(path) is not None)


def _nested_too_deep(path: Path, reader: str) -> ReturnedFile:
    sentence = f"{path.name} is in a subfolder of the folder {reader}: move it into that folder itself."
    return ReturnedFile(path, None, reader, problem=sentence)


def _is_no_label(path: Path) -> bool:
    name = path.name.lower()
    if name.startswith((".", "~")) or name in _SYSTEM_FILES:
        return True
    return stem_of(path) is None and name.endswith(_OTHER_ENDINGS)


def _case_of(path: Path, cases: Sequence[str]) -> str | None:
    stem = normalized_name(stem_of(path) or "")
    alike = [case for case in cases if normalized_name(case) == stem]
    alike = alike or [case for case in cases if normalized_name(case).lower() == stem.lower()]
    return alike[0] if len(alike) == 1 else None


def _returned(
    path: Path, reader: str, marks: ReviewMarks, regions: Sequence[Region], all_reviewed: bool
) -> ReturnedFile:
    if stem_of(path) is None:
        return ReturnedFile(
            path, None, reader, problem=f"{path.name} is not a segmentation: save it as .seg.nrrd or .nii.gz."
        )
    cases = sorted({region.case for region in regions})
    case = _case_of(path, cases)
    if case is None:
        sentence = f"{path.name} is not named after a case of this batch: name it as the image, such as "
        return ReturnedFile(path, None, reader, problem=f"{sentence}{cases[0]}.seg.nrrd.")
    if marks.is_broken and not all_reviewed:
        return ReturnedFile(path, case, reader, problem="Its table of marks cannot be read; see the row of that table.")
    ranks = [rank for rank, region in enumerate(regions, start=1) if region.case == case]
    reviews = {rank: marks.reviews.get((case, rank), Review(False, None)) for rank in ranks}
    if all_reviewed:
        reviews = {rank: Review(True, review.minutes) for rank, review in reviews.items()}
    return ReturnedFile(path, case, reader, reviews)
