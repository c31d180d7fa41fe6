"""The tables in which readers mark the regions that they have reviewed."""

from __future__ import annotations

import unicodedata
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_al.annotation.hand_out import SHEET
from nnunet_al.annotation.review_sheet import Review, read_sheet
from nnunet_al.errors import ReturnError
from nnunet_al.pool.boxes import Region


@dataclass(frozen=True)
class ReviewMarks:
    """The review marks of the tables that hold for some files.

    Attributes
    ----------
    paths : the tables, the oldest first
    reviews : (case, rank) -> the reader's entries for this region of the batch
    problems : table -> a sentence on why it cannot be used, or on a row that does not belong to the batch
    is_broken : whether no row of one of the tables can be used
    differing : ranks that some tables mark as reviewed and others do not, if at least two have marks
    """

    paths: tuple[Path, ...] = ()
    reviews: Mapping[tuple[str, int], Review] = field(default_factory=dict)
    problems: Mapping[Path, str] = field(default_factory=dict)
    is_broken: bool = False
    differing: tuple[int, ...] = ()

    @property
    def reviewed(self) -> set[tuple[str, int]]:
        """The regions that are marked as reviewed."""
        return {key for key, review in self.reviews.items() if review.reviewed}


def normalized_name(name: str) -> str:
    """Normalise a case id, because macOS decomposes letters in file names and spreadsheets join blanks."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def read_marks(folders: Sequence[Path], regions: Sequence[Region]) -> ReviewMarks:
    """Read all tables of marks in ``folders``, for the regions of a batch by rank, and put them together.

    Copies of a table go their own ways: a region is reviewed if one of them says so. Where they give different times
    for it, that of the table which was saved last stands, a table that marks it before one that does not.
    """
    paths = sorted({folder / SHEET for folder in folders if (folder / SHEET).is_file()}, key=_saved)
    known = {(normalized_name(region.case), rank): region.case for rank, region in enumerate(regions, start=1)}
    tables: list[dict[tuple[str, int], Review]] = []
    problems: dict[Path, str] = {}
    for path in paths:
        try:
            rows = read_sheet(path)
        except ReturnError as error:
            problems[path] = str(error)
            continue
        tables.append({})
        for (case, rank), review in rows.items():
            if (case_of_batch := known.get((normalized_name(case), rank))) is not None:
                tables[-1][case_of_batch, rank] = review
            elif review.reviewed and path not in problems:
                problems[path] = (
                    f"{path.name} marks rank {rank} of the case {case!r} as reviewed, which does not belong to this "
                    "batch: keep both columns as they were handed out."
                )
    reviews: dict[tuple[str, int], Review] = {}
    for key in {key for table in tables for key in table}:
        of_tables = [table[key] for table in tables if key in table]
        times = [review.minutes for review in sorted(of_tables, key=lambda each: each.reviewed)]
        minutes = next((time for time in reversed(times) if time is not None), None)
        reviews[key] = Review(any(review.reviewed for review in of_tables), minutes)
    marked = [found for table in tables if (found := {key for key, review in table.items() if review.reviewed})]
    differing = set().union(*marked) - set(marked[0]).intersection(*marked) if marked else set()
    ranks = tuple(sorted(rank for _, rank in differing))
    return ReviewMarks(tuple(paths), reviews, problems, len(tables) < len(paths), ranks)


def on_marks(
    marks: ReviewMarks, unread: ReviewMarks, cases: Container[str | None], reader: str, batch_folder: Path
) -> Iterator[str]:
    """Yield sentences on marks that differ between the tables of ``marks``, and on those in ``unread`` ones alone.

    ``cases`` are those of the files of the ``reader``; paths are given as they lie in the batch folder.
    """
    if marks.differing:
        yield (
            f"{_listed(marks.paths, batch_folder)} mark different regions as reviewed (rank "
            f"{', '.join(map(str, marks.differing))}): a region counts if one of them marks it."
        )
    ranks = sorted(rank for case, rank in unread.reviewed - marks.reviewed if case in cases)
    if ranks:
        yield (
            f"The marks for the files of {reader} were read from {_listed(marks.paths, batch_folder)} alone; rank "
            f"{', '.join(map(str, ranks))} is marked only in {_listed(unread.paths, batch_folder)}."
        )


def _listed(paths: Iterable[Path], batch_folder: Path) -> str:
    names = [str(path.relative_to(batch_folder) if path.is_relative_to(batch_folder) else path) for path in paths]
    return " and ".join(names)


def _saved(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, str(path)
