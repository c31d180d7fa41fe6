"""The tables in which readers mark the regions that they have reviewed."""

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
class ReviewMarks:
    """The review marks of one table.

    Attributes
    ----------
    path : the table; None if there is none
    reviews : (case, rank) -> the reader's entries for this region of the batch
    problem : a sentence on why the table cannot be used, or on a row that does not belong to the batch
    is_broken : whether no row can be used
    """

    path: Path | None = None
    reviews: Mapping[tuple[str, int], Review] = field(default_factory=dict)
    problem: str | None = None
    is_broken: bool = False


def normalized_name(name: str) -> str:
    """Normalise a case id, because macOS decomposes letters in file names and spreadsheets join blanks."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def read_marks(folders: Sequence[Path], regions: Sequence[Region]) -> ReviewMarks:
    """Read the first table of marks found in ``folders``, for the regions of a batch by rank."""
    path = next((folder / SHEET for folder in folders if (folder / SHEET).is_file()), None)
    if path is None:
        return ReviewMarks()
    try:
        rows = read_sheet(path)
    except ReturnError as error:
        return ReviewMarks(path, problem=str(error), is_broken=True)
    known = {(normalized_name(region.case), rank): region.case for rank, region in enumerate(regions, start=1)}
    reviews, unknown = {}, []
    for (case, rank), review in rows.items():
        if (case_of_batch := known.get((normalized_name(case), rank))) is not None:
            reviews[case_of_batch, rank] = review
        elif review.reviewed:
            unknown.append((case, rank))
    if not unknown:
        return ReviewMarks(path, reviews)
    case, rank = unknown[0]
    sentence = (
        f"{path.name} marks rank {rank} of the case {case!r} as reviewed, which does not belong to this batch: keep "
        "both columns as they were handed out."
    )
    return ReviewMarks(path, reviews, sentence)
