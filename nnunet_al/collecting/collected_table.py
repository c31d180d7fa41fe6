"""``collected.csv``: the outcome of each file that was returned for a batch."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from nnunet_al.collecting.batch_collector import Outcome
from nnunet_al.files import write_table

TABLE = "collected.csv"
_COLUMNS = ("file", "case", "reader", "state", "regions", "edits_outside", "disagreements", "reason")


def write_collected(batch_folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Update the table: rows of the files in ``outcomes`` are replaced or added, the others stay.

    Raises StorageError if it cannot be written.
    """
    path = batch_folder / TABLE
    rows = {(row["file"], row["reader"]): row for row in _read(path)}
    for outcome in outcomes:
        inside = batch_folder in outcome.path.parents
        row = {
            "file": str(outcome.path.relative_to(batch_folder) if inside else outcome.path),
            "case": outcome.case,
            "reader": outcome.reader,
            "state": outcome.state,
            "regions": str(outcome.regions),
            "edits_outside": _text(outcome.edits_outside),
            "disagreements": _text(outcome.disagreements),
            "reason": " ".join(outcome.sentences),
        }
        rows[row["file"], row["reader"]] = row
    if rows:
        write_table(path, list(rows.values()))


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):  # absent, or saved in another format: start a new table
        return []
    return rows if all(tuple(row) == _COLUMNS for row in rows) else []


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
