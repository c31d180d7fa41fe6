"""Find the files that readers returned, with their reader, their case and their review marks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunet_al.annotation.grids import Grid
from nnunet_al.annotation.hand_out import RETURNED
from nnunet_al.annotation.monailabel_labels import returned_labels
from nnunet_al.annotation.review_sheet import Review
from nnunet_al.annotation.volumes import is_of_another_case, stem_of
from nnunet_al.collecting.listing import RAW_VOXELS, case_of, label_files, nested_files, readers_folders, returned_in
from nnunet_al.collecting.review_marks import ReviewMarks, on_marks, read_marks
from nnunet_al.errors import ReturnError
from nnunet_al.pool.boxes import Region

UNNAMED_READER = "reader"
"""Reader's name in the ledger if none is given."""

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
) -> tuple[list[ReturnedFile], list[str]]:
    """List the files that readers returned, sorted by reader and name, and sentences on tables of marks that differ.

    The files are in ``returned/`` of the batch folder, those of a reader in ``returned/<reader>/``; the folder
    ``source``, or its ``returned/`` if it is a batch folder, is searched instead if given. ``regions`` are those of the
    batch by rank. ``reader`` is the reader of all files instead of the names of the folders. With ``all_reviewed``
    every region of each file counts as reviewed, regardless of the tables. With ``own_marks`` each reader's folder
    needs a table of marks, because one table cannot hold the marks of several readings. Of two files of one case by
    one reader neither can be collected. Only tables of marks and headers are read.
    """
    base = batch_folder / RETURNED if source is None else returned_in(source)
    found: list[ReturnedFile] = []
    sentences: list[str] = []
    reported: set[Path] = set()
    named: set[Path] = set()
    shared = read_marks([base, batch_folder], regions)
    for folder in [base, *readers_folders(base)] if base.is_dir() else []:
        who = reader or (UNNAMED_READER if folder == base else folder.name)
        inner = returned_in(folder)
        own = ReviewMarks() if folder == base else read_marks([inner, folder], regions)
        has_own = folder != base and (own_marks or bool(own.paths))
        marks = own if has_own else shared
        for table, problem in marks.problems.items():
            if table not in reported:
                reported.add(table)
                found.append(ReturnedFile(table, None, who, problem=problem))
        files = [_returned(path, who, marks, regions, all_reviewed) for path in label_files(inner, named)]
        found += files
        if folder != base:
            found += [_nested_too_deep(path, who) for path in nested_files(inner)]
        if not all_reviewed:
            unread = shared if has_own and not own_marks else ReviewMarks()
            sentences += on_marks(marks, unread, {file.case for file in files}, who, batch_folder)
    return _refuse_twice(found), list(dict.fromkeys(sentences))


def _refuse_twice(files: Sequence[ReturnedFile]) -> list[ReturnedFile]:
    """Give all files of one case by one reader a problem where there are several: names do not say which one counts.

    A file that was drawn on another case is none of them; it is refused for that.
    """
    of: dict[tuple[str, str], list[Path]] = {}
    for file in files:
        if file.case is not None:
            of.setdefault((file.reader, file.case), []).append(file.path)
    problems: dict[Path, str] = {}
    for (reader, case), paths in of.items():
        rivals = [path for path in paths if not is_of_another_case(path, case)] if len(paths) > 1 else []
        if len(rivals) < 2:
            continue
        names = [path.name for path in rivals]
        if len(set(names)) < len(names):
            names = [f"{path.parent.name}/{path.name}" for path in rivals]
        sentence = (
            f"{' and '.join(names)} are files of the same case, {case}, from {reader}: keep the one that counts, and "
            "move the rest out of the folder."
        )
        problems |= dict.fromkeys(rivals, sentence)
    return [replace(file, problem=problems[file.path]) if file.path in problems else file for file in files]


def find_submitted(
    batch_folder: Path, regions: Sequence[Region], reader: str | None = None, grids: Mapping[str, Grid] | None = None
) -> list[ReturnedFile]:
    """List the labels that readers submitted to the MONAI Label server of a batch folder.

    A submitted label answers all regions of the case; ``batch.csv`` is used for the reader's time only. ``grids`` are
    those of the cases' images.
    """
    try:
        labels = returned_labels(batch_folder, grids)
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
    for path in label_files(source, set()):
        case = case_of(path, cases)
        problem = None if case else f"{path.name} is not named after an annotated case: name it as the case."
        found.append(ReturnedFile(path, case, reader or UNNAMED_READER, problem=problem))
    return _refuse_twice(found)


def _nested_too_deep(path: Path, reader: str) -> ReturnedFile:
    sentence = f"{path.name} is in a subfolder of the folder {reader}: move it into that folder itself."
    return ReturnedFile(path, None, reader, problem=sentence)


def _returned(
    path: Path, reader: str, marks: ReviewMarks, regions: Sequence[Region], all_reviewed: bool
) -> ReturnedFile:
    if stem_of(path) is None:
        sentence = f"{path.name} is not a segmentation: save it as .seg.nrrd or .nii.gz."
        if path.name.lower().endswith(RAW_VOXELS):
            sentence = f"{path.name} has no header beside it that names it: return that as well, or one .nii.gz."
        return ReturnedFile(path, None, reader, problem=sentence)
    cases = sorted({region.case for region in regions})
    case = case_of(path, cases)
    if case is None:
        sentence = f"{path.name} is not named after a case of this batch: name it as the image, such as "
        return ReturnedFile(path, None, reader, problem=f"{sentence}{cases[0]}.seg.nrrd.")
    ranks = [rank for rank, region in enumerate(regions, start=1) if region.case == case]
    reviews = {rank: marks.reviews.get((case, rank), Review(False, None)) for rank in ranks}
    if marks.is_broken and not all_reviewed and not any(review.reviewed for review in reviews.values()):
        return ReturnedFile(path, case, reader, problem="Its table of marks cannot be read; see the row of that table.")
    if all_reviewed:
        reviews = {rank: Review(True, review.minutes) for rank, review in reviews.items()}
    return ReturnedFile(path, case, reader, reviews)
