"""The readers' entries in ``batch.csv``: reviewed regions and annotation times."""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_al.errors import ReturnError

_MARKS = {"yes", "y", "true", "1", "1.0", "1,0", "x", "ja", "j", "oui", "si", "done", "wahr", "vrai"}
_NO_MARKS = {"", "no", "n", "false", "0", "0.0", "0,0", "nein", "non", "falsch", "faux"}
_DELIMITERS = ",;\t"
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods; .xls
_COLUMNS = ("case", "rank", "reviewed", "minutes")


@dataclass(frozen=True)
class Review:
    """A reader's entry for one region.

    Attributes
    ----------
    reviewed : the reader has checked every voxel of the region
    minutes : annotation time, None if not entered
    """

    reviewed: bool
    minutes: float | None


def read_sheet(path: Path) -> dict[tuple[str, int], Review]:
    """Return (case, rank) -> the reader's entry, from a table as saved by spreadsheet programs and editors.

    Commas, semicolons or tabs separate the columns; the text is UTF-8, UTF-16 with a byte order mark or cp1252. The
    columns case, rank and reviewed, and minutes where known, may have any order, upper or lower case, and there may be
    others; empty rows and columns are ignored.

    Raises ReturnError naming the file and the line: a workbook instead of a table, a file that is not text, missing
    columns, a row with too many values, an invalid rank, mark or time, different rows for one region.
    """
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        raise ReturnError(f"{path} is empty: take batch.csv of the batch again and mark the reviewed regions.")
    width, columns = len(first[1]), _columns(path, first[1])
    reviews: dict[tuple[str, int], Review] = {}
    for line, row in rows:
        where = f"line {line} of {path}"
        if any(row[width:]):
            raise ReturnError(
                f"There are more values in {where} than columns: put quotes around values with a delimiter inside, such"
                " as minutes with a decimal comma."
            )
        cells = {name: row[columns[name]] if columns.get(name, len(row)) < len(row) else "" for name in _COLUMNS}
        if not any(cells.values()):
            continue
        if not cells["case"]:
            raise ReturnError(f"There is no case in {where}: write it as in batch.csv of the batch.")
        key = cells["case"], _rank(cells, where)
        review = Review(_mark(cells["reviewed"], where), _minutes(cells["minutes"], where))
        reviews[key] = _both(reviews.get(key), review, where, key)
    return reviews


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ReturnError(f"{path} cannot be read ({error.strerror}): check that it is there.") from None
    if content.startswith(_WORKBOOKS) or path.suffix.lower() in {".xlsx", ".xls", ".ods"}:
        raise ReturnError(f"{path} is a workbook and not text: save it as CSV, with the name batch.csv.")
    try:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return content.decode("utf-16")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            return content.decode("cp1252")
    except UnicodeDecodeError:
        raise ReturnError(f"{path} is not readable as text: save it as CSV in UTF-8.") from None


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, stripped cells) of every row that is not empty."""
    text = _text(path)
    offset, delimiter = 0, ""
    if named := re.match(r'"?sep=(.)"?[,;\t]*\r?\n', text):  # a line that tells Excel the delimiter
        text, offset, delimiter = text[named.end() :], 1, named[1]
    head = next((line for line in text.splitlines() if line.strip(f" {_DELIMITERS}")), "")
    delimiter = delimiter or max(_DELIMITERS, key=lambda candidate: _known(head, candidate))
    table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in table:
            cells = [" ".join(cell.split()) for cell in row]
            if any(cells):
                yield table.line_num + offset, cells
    except csv.Error:
        raise ReturnError(
            f"The quotes in line {table.line_num + offset} of {path} do not match: save it as CSV again."
        ) from None


def _known(line: str, delimiter: str) -> int:
    return sum(name.strip().strip('"').strip().lower() in _COLUMNS for name in line.split(delimiter))


def _columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    names = [name.lower() for name in header]
    missing = [name for name in ("case", "rank", "reviewed") if name not in names]
    if missing:
        raise ReturnError(
            f"{path} has no column {' and no column '.join(missing)}: keep the first line of batch.csv of the batch, "
            "and commas, semicolons or tabs between the columns."
        )
    if twice := next((name for name in _COLUMNS if names.count(name) > 1), None):
        raise ReturnError(f"{path} has more than one column {twice}: keep one of them.")
    return {name: names.index(name) for name in _COLUMNS if name in names}


def _rank(cells: Mapping[str, str], where: str) -> int:
    if not re.fullmatch(r"\d+([.,]0*)?", cells["rank"]):
        raise ReturnError(
            f"The rank {cells['rank']!r} in {where} is not a whole number: write it as in batch.csv of the batch."
        )
    return int(re.split("[.,]", cells["rank"])[0])


def _mark(cell: str, where: str) -> bool:
    plain = unicodedata.normalize("NFKD", cell).encode("ascii", "ignore").decode().strip().lower() if cell else ""
    if plain in _MARKS:
        return True
    if plain in _NO_MARKS and bool(plain) == bool(cell):
        return False
    raise ReturnError(f"The mark {cell!r} under reviewed in {where} is neither yes nor no: write yes, or nothing.")


def _minutes(cell: str, where: str) -> float | None:
    if not cell:
        return None
    minutes = float(cell.replace(",", ".")) if re.fullmatch(r"\d*[.,]?\d+|\d+[.,]", cell) else math.nan
    if not math.isfinite(minutes):
        raise ReturnError(f"The time {cell!r} under minutes in {where} is not a number: write minutes such as 12.5.")
    return minutes


def _both(earlier: Review | None, review: Review, where: str, key: tuple[str, int]) -> Review:
    if earlier is None:
        return review
    times = {time for time in (earlier.minutes, review.minutes) if time is not None}
    if earlier.reviewed != review.reviewed or len(times) > 1:
        raise ReturnError(
            f"The case {key[0]}, rank {key[1]}, in {where} has an earlier row with another mark or time: keep one."
        )
    return Review(review.reviewed, next(iter(times), None))
