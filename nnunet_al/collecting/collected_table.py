"""``collected.csv``: the outcome of each file that was returned for a batch, in each call."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from nnunet_al.collecting.batch_collector import Outcome
from nnunet_al.files import storage_errors, write_table

TABLE = "collected.csv"
_FORMER = ("file", "case", "reader", "state", "regions", "edits_outside", "disagreements", "reason")
_COLUMNS = (*_FORMER, "call", "time")


def write_collected(batch_folder: Path, outcomes: Sequence[Outcome], call: str, time: datetime) -> None:
    """Append the outcomes of a call ("collect" or "correct") with its time, in ISO 8601; earlier rows stay.

    Rows of earlier versions, which kept only the last outcome of each file, have no time. A table that somebody saved
    in another form is kept beside the new one, under a name with the time.

    Raises StorageError if it cannot be written.
    """
    if not outcomes:
        return
    path = batch_folder / TABLE
    rows = _read(path)
    if rows is None:
        with storage_errors(path):
            path.rename(path.with_name(f"{path.stem}_before_{time:%Y%m%dT%H%M%S}{path.suffix}"))
    write_table(path, [*(rows or []), *(_row(batch_folder, outcome, call, time) for outcome in outcomes)])


def _row(batch_folder: Path, outcome: Outcome, call: str, time: datetime) -> dict[str, str]:
    inside = batch_folder in outcome.path.parents
    return {
        "file": str(outcome.path.relative_to(batch_folder) if inside else outcome.path),
        "case": outcome.case,
        "reader": outcome.reader,
        "state": outcome.state,
        "regions": str(outcome.regions),
        "edits_outside": _text(outcome.edits_outside),
        "disagreements": _text(outcome.disagreements),
        "reason": " ".join(outcome.sentences),
        "call": call,
        "time": time.isoformat(timespec="seconds"),
    }


def _read(path: Path) -> list[dict[str, str]] | None:
    """Return the rows of a table; none where it is absent, None if it is not as this or an earlier version wrote it."""
    rows: list[dict[str, str]] = []
    if not path.is_file():
        return rows
    with suppress(OSError, UnicodeDecodeError, csv.Error), path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        rows = list(table)
        as_written = tuple(table.fieldnames or ()) in (_FORMER, _COLUMNS)
        if as_written and all(None not in row and None not in row.values() for row in rows):
            return [{column: row.get(column, "") for column in _COLUMNS} for row in rows]
    return None


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
