"""The requested columns of a table of participants, for the cases of a dataset only.

Such tables also hold names and birth dates. No message contains a value of the table, and other columns and rows are
dropped while reading.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from nnunet_al.errors import GroupsError
from nnunet_al.text import first_names, joined

_ID_COLUMNS = ("participant_id", "case", "case_id", "subject", "subject_id", "id")
_DELIMITERS = {".tsv": "\t", ".csv": ",;"}  # many spreadsheets write .csv with a semicolon
_ANY_DELIMITER = "\t,;|"
_PREFIX = "sub-"
_CASES_SHOWN, _COLUMNS_SHOWN = 5, 20


@dataclass(frozen=True)
class Header:
    """The first line of a table: the delimiter and the names of its columns, and the index of the column of ids."""

    path: Path
    delimiter: str
    columns: tuple[str, ...]
    id_column: int

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
    with _opened(path) as file:
        line = next((line for line in file if line.strip()), "")
        if not line:
            raise GroupsError(f"{path} is empty: give a table with a line for each case, and names of columns above.")
        candidates = _DELIMITERS.get(path.suffix.lower(), _ANY_DELIMITER)
        delimiter = max(candidates, key=line.count)
        file.seek(0)
        columns = _first_row(csv.reader(file, delimiter=delimiter))
    if len(columns) == 1:
        raise GroupsError(f"{path} has one column only: separate columns by tabs (.tsv) or commas (.csv).")
    known = [i for name in _ID_COLUMNS for i, column in enumerate(columns) if column.lower() == name]
    if not any(columns) or (not known and _is_a_row(columns, set(cases))):
        raise GroupsError(
            f"{path} does not begin with names of columns: put a line with {_ID_COLUMNS[0]} and the names of the "
            "others above the first case."
        )
    return Header(path, delimiter, columns, known[0] if known else 0)


def read_values(header: Header, columns: Sequence[str], cases: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the stripped values of the given columns for every case.

    An id matches the case of the same name, or else the case that differs only by BIDS' prefix ``sub-``; a row with the
    exact name has precedence.

    Raises GroupsError if a row has more values than there are columns, or a case has no row, or two with different
    values.
    """
    wanted = [header.index(column) for column in columns]
    known = set(cases)
    exact: dict[str, set[tuple[str, ...]]] = {}
    prefixed: dict[str, set[tuple[str, ...]]] = {}
    with _opened(header.path) as file:
        rows = csv.reader(file, delimiter=header.delimiter)
        _first_row(rows)
        for row in rows:
            if any(value.strip() for value in row[len(header.columns) :]):
                # an unquoted delimiter has shifted the values after it, such as birth dates, into other columns
                raise GroupsError(
                    f"Line {rows.line_num} of {header.path} has more values than there are names of columns: put "
                    "quotes around values with a delimiter inside."
                )
            name = _cell(row, header.id_column)
            if name in known:
                exact.setdefault(name, set()).add(tuple(_cell(row, i) for i in wanted))
            elif (other := _other_spelling(name)) in known:
                prefixed.setdefault(other, set()).add(tuple(_cell(row, i) for i in wanted))
    found = {case: exact.get(case, prefixed.get(case)) for case in cases}
    return _one_each(header, columns, found)


def listed(names: Sequence[str], shown: int = _CASES_SHOWN) -> str:
    """Return all names if they are few, "a, b and c", else the first ``shown`` of them, "a, b and 3 more"."""
    return joined(names) if len(names) <= shown else first_names(names, shown)


def _one_each(
    header: Header, columns: Sequence[str], found: Mapping[str, set[tuple[str, ...]] | None]
) -> dict[str, tuple[str, ...]]:
    missing = sorted(case for case, values in found.items() if values is None)
    if missing:
        column = header.columns[header.id_column]
        where = f"the column {column}" if _names_ids(column) else "the first column"
        raise GroupsError(
            f"{header.path} has no row for {len(missing)} of {len(found)} cases ({listed(missing)}): add the missing "
            f"rows, with the names of the cases in {where}."
        )
    result = {}
    for case, values in found.items():
        assert values is not None
        if len(values) > 1:
            raise GroupsError(
                f"{header.path} has rows of the case {case} that differ in {joined(columns)}: keep one of them."
            )
        (result[case],) = values
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


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if not path.is_file():
        raise GroupsError(f"There is no table of participants {path}: check the path.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise GroupsError(f"{path} cannot be read ({error.strerror}): check its permissions.") from None
    except (UnicodeDecodeError, csv.Error):
        # without its cause, whose text contains bytes of the table
        raise GroupsError(f"{path} is not readable as text: save it as CSV or TSV in UTF-8.") from None
