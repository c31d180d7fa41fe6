"""The requested columns of a table of participants, for the cases of a dataset only.

Such tables also hold names and birth dates. No message contains a value of the table, and other columns and rows are
dropped while reading.
"""

from __future__ import annotations

import csv
import difflib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from nnunet_al.errors import GroupsError
from nnunet_al.evaluation.table_text import read_table_text, unreadable
from nnunet_al.text import first_names, joined

_ID_COLUMNS = ("participant_id", "case", "case_id", "subject", "subject_id", "id")
_DELIMITERS = {".tsv": "\t", ".csv": ",;\t"}  # many spreadsheets write .csv with a semicolon, or a tab in UTF-16
_ANY_DELIMITER = "\t,;|"
_PREFIX = "sub-"
_EXACT, _PREFIXED, _SUBJECT = range(3)  # how closely an id matches a case
_CASES_SHOWN, _COLUMNS_SHOWN = 5, 20


@dataclass(frozen=True)
class Header:
    """The first line of a table: the delimiter and the names of its columns, and the index of the column of ids.

    ``encoding`` is that of `TableText`.
    """

    path: Path
    delimiter: str
    columns: tuple[str, ...]
    id_column: int
    encoding: str = ""

    def index(self, column: str) -> int:
        """Return the index of a column; raise ``GroupsError`` unless it occurs exactly once."""
        number = self.columns.count(column)
        if number == 0:
            raise GroupsError(f"{self.path} has no column '{column}': {self._instead(column)}")
        if number > 1:
            raise GroupsError(f"{self.path} has {number} columns '{column}': give each a different name.")
        return self.columns.index(column)

    def _instead(self, column: str) -> str:
        if not _names_ids(self.columns[self.id_column]):
            # this line may be the first participant instead of a header, and no message may show its values
            return f"check that its first line names the columns, one of them {_ID_COLUMNS[0]}."
        others = {name.lower(): name for i, name in enumerate(self.columns) if name and i != self.id_column}
        near = difflib.get_close_matches(column.lower(), others, n=3)
        if near:
            return f"did you mean {' or '.join(others[name] for name in near)}?"
        return f"use one of {listed(list(others.values()), _COLUMNS_SHOWN)}."


def read_header(path: Path, cases: Sequence[str]) -> Header:
    """Read the header: the first line of a table that is not blank.

    Raises GroupsError if the file is missing, is not text, is empty, or begins with a case or a number instead of names
    of columns.
    """
    table = read_table_text(path)
    line = next((line for line in StringIO(table.text, newline=None) if line.strip()), "")
    if not line:
        raise GroupsError(f"{path} is empty: give a table with a line for each case, and names of columns above.")
    candidates = table.delimiter or _DELIMITERS.get(path.suffix.lower(), _ANY_DELIMITER)
    with _rows(path, table.text, candidates[0]):
        ranks = {delimiter: _rank(line, delimiter) for delimiter in candidates}
    delimiter = max(candidates, key=lambda delimiter: ranks[delimiter])
    with _rows(path, table.text, delimiter) as rows:
        columns = _first_row(rows)
    if len(columns) == 1:
        raise GroupsError(f"{path} has one column only: separate columns by tabs (.tsv) or commas (.csv).")
    known = [i for name in _ID_COLUMNS for i, column in enumerate(columns) if column.lower() == name]
    if not any(columns) or (not known and _is_a_row(columns, set(cases))):
        raise GroupsError(
            f"{path} does not begin with names of columns: put a line with {_ID_COLUMNS[0]} and the names of the "
            "others above the first case."
        )
    return Header(path, delimiter, columns, known[0] if known else 0, table.encoding)


def read_values(header: Header, columns: Sequence[str], cases: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the stripped values of the given columns for every case.

    An id matches the case of the same name; else the one that differs only by BIDS' prefix ``sub-``; else those that
    begin with the id, with ``sub-`` added or removed, and go on with ``_``, as the files of a subject do in BIDS
    (``sub-01_ses-01``, ``sub-01_T1w``). A closer match has precedence.

    Raises GroupsError if a row has more values than there are columns, or a case has no row, or several that match
    equally closely and have different values.
    """
    wanted = [header.index(column) for column in columns]
    subjects: dict[str, list[tuple[str, int]]] = {}  # a possible id -> its cases, and how closely it matches them
    for case in cases:
        for name, closeness in _ids(case).items():
            subjects.setdefault(name, []).append((case, closeness))
    found: dict[str, dict[int, set[tuple[str, ...]]]] = {case: {} for case in cases}
    with _rows(header.path, read_table_text(header.path).text, header.delimiter) as rows:
        _first_row(rows)
        for row in rows:
            if any(value.strip() for value in row[len(header.columns) :]):
                # an unquoted delimiter has shifted the values after it, such as birth dates, into other columns
                raise GroupsError(
                    f"Line {rows.line_num} of {header.path} has more values than there are names of columns: put "
                    "quotes around values with a delimiter inside."
                )
            name = unicodedata.normalize("NFC", _cell(row, header.id_column))
            for case, closeness in subjects.get(name, []):
                found[case].setdefault(closeness, set()).add(tuple(_cell(row, i) for i in wanted))
    return _one_each(header, columns, found)


def _ids(case: str) -> dict[str, int]:
    """Return the ids that a case's row may have, and how closely they match."""
    case = unicodedata.normalize("NFC", case)
    parts = case.split("_")
    subjects = ["_".join(parts[:end]) for end in range(1, len(parts))]
    found = {name: _SUBJECT for subject in subjects if subject for name in (subject, _other_spelling(subject))}
    return {**found, _other_spelling(case): _PREFIXED, case: _EXACT}


def listed(names: Sequence[str], shown: int = _CASES_SHOWN) -> str:
    """Return all names if they are few, "a, b and c", else the first ``shown`` of them, "a, b and 3 more"."""
    return joined(names) if len(names) <= shown else first_names(names, shown)


def _one_each(
    header: Header, columns: Sequence[str], found: Mapping[str, Mapping[int, set[tuple[str, ...]]]]
) -> dict[str, tuple[str, ...]]:
    missing = sorted(case for case, values in found.items() if not values)
    if missing:
        column = header.columns[header.id_column]
        where = f"the column {column}" if _names_ids(column) else "the first column"
        raise GroupsError(
            f"{header.path} has no row for {len(missing)} of {len(found)} cases ({listed(missing)}): add the missing "
            f"rows, with the names of the cases in {where}."
        )
    result = {}
    for case, rows in found.items():
        closest = min(rows)
        if len(rows[closest]) > 1:
            own = ", or give the case a row of its own name" if closest == _SUBJECT else ""
            raise GroupsError(
                f"{header.path} has rows of the case {case} that differ in {joined(columns)}: keep one of them{own}."
            )
        (result[case],) = rows[closest]
    return result


def _first_row(rows: Iterator[list[str]]) -> tuple[str, ...]:
    stripped = (tuple(value.strip() for value in row) for row in rows)
    return next((row for row in stripped if any(row)), ())


def _cell(row: Sequence[str], index: int) -> str:
    return " ".join(row[index].split()) if index < len(row) else ""


def _other_spelling(name: str) -> str:
    return name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else _PREFIX + name


def _names_ids(column: str) -> bool:
    return column.lower() in _ID_COLUMNS


def _is_a_row(columns: Sequence[str], cases: set[str]) -> bool:
    return any(
        name in cases or _other_spelling(name) in cases or (name and not any(letter.isalpha() for letter in name))
        for name in columns
    )


def _rank(line: str, delimiter: str) -> tuple[bool, int]:
    """Rank a delimiter by the first line: one that gives a column of ids, then the most frequent."""
    columns = next(csv.reader([line], delimiter=delimiter), [])
    return len(columns) > 1 and any(_names_ids(column.strip()) for column in columns), line.count(delimiter)


@contextmanager
def _rows(path: Path, text: str, delimiter: str) -> Iterator[Any]:
    try:
        yield csv.reader(StringIO(text, newline=""), delimiter=delimiter)
    except csv.Error:
        # without its cause, whose text contains bytes of the table
        raise unreadable(path) from None
