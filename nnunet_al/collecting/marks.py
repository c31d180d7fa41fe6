"""The tables in which readers mark what they have reviewed: which one holds for a file, and what it says."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_al.annotation.hand_out import SHEET
from nnunet_al.annotation.review_sheet import Review, read_sheet
from nnunet_al.errors import ReturnError
from nnunet_al.pool.boxes import Region


@dataclass(frozen=True)
class Marks:
    """One table of marks.

    Attributes
    ----------
    path : the table; None where there is none
    reviews : (case, rank) -> what the reader says of this region of the batch
    problem : a sentence that keeps the table from being used, or says which of its rows are none of the batch
    is_broken : whether nothing of it can be used
    """

    path: Path | None = None
    reviews: Mapping[tuple[str, int], Review] = field(default_factory=dict)
    problem: str | None = None
    is_broken: bool = False


def same_name(name: str) -> str:
    """Return what two spellings of a case's id have in common: macOS composes letters, spreadsheets join blanks."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def read_marks(folders: Sequence[Path], regions: Sequence[Region]) -> Marks:
    """Read the first table of marks that lies in one of ``folders``, for the regions of a batch by rank."""
    path = next((folder / SHEET for folder in folders if (folder / SHEET).is_file()), None)
    if path is None:
        return Marks()
    try:
        rows = read_sheet(path)
    except ReturnError as error:
        return Marks(path, problem=str(error), is_broken=True)
    known = {(same_name(region.case), rank): region.case for rank, region in enumerate(regions, start=1)}
    reviews, strangers = {}, []
    for (case, rank), review in rows.items():
        if (case_of_batch := known.get((same_name(case), rank))) is not None:
            reviews[case_of_batch, rank] = review
        elif review.reviewed:
            strangers.append((case, rank))
    if not strangers:
        return Marks(path, reviews)
    case, rank = strangers[0]
    sentence = (
        f"{path.name} marks rank {rank} of the case {case!r} as reviewed, which is none of this batch: keep both "
    )
    return Marks(path, reviews, f"{sentence}columns as they were handed out.")
