"""Groups of cases by the columns of a table of participants, by value or in bins."""

from __future__ import annotations

import bisect
import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_al.errors import GroupsError
from nnunet_al.evaluation.column_values import Column, has_commas, known_value, look_alikes, number_in, numbers_of
from nnunet_al.evaluation.participants import Header, listed, read_header, read_values
from nnunet_al.text import joined

JOINT = " & "
UNKNOWN = "unknown"
_MOST_NUMBERS = 10  # largest number of different values in a column that is not continuous


@dataclass(frozen=True)
class _Entry:
    """A column, with the edges as written, or a number of quantile groups, or neither."""

    column: str
    edges: tuple[str, ...] = ()
    quantiles: int | None = None

    @property
    def binned(self) -> bool:
        return bool(self.edges) or self.quantiles is not None


def read_groups(
    path: Path,
    group_by: Sequence[str],
    cases: Sequence[str],
    missing: str | None = None,
    settled: Collection[str] = (),
    note: Callable[[str], None] = lambda sentence: None,
) -> dict[str, str]:
    """Return the group of every case, in the order of ``cases``, which has no other effect.

    Parameters
    ----------
    path : Path
        table with a header line, in UTF-8, UTF-16 or Windows-1252: ``.tsv`` (BIDS' participants.tsv), ``.csv`` with
        commas, semicolons or tabs, or another ending, where the most frequent delimiter of the first line is used;
        Excel's line ``sep=;`` is understood. Ids are in the column participant_id, else case, case_id, subject,
        subject_id, id, else the first one; they match a case exactly, or with BIDS' prefix ``sub-`` added or removed,
        or as its subject: ``sub-01`` matches ``sub-01_ses-01`` and ``sub-01_T1w``.
    group_by : sequence of str
        at least one entry; a case's group is the values or bins of all entries, joined by ``" & "``:

        * ``COLUMN``: the value itself;
        * ``COLUMN:EDGE,...`` with ascending numbers: ``age:40,60`` gives age<40, 40<=age<60 and age>=60;
        * ``COLUMN:qN``: N groups of about equal size over ``cases``, ``age:q4`` gives age_q1of4 to age_q4of4. With r
          smaller and e equal values (itself included) of n, a case is in number floor(N (r + e / 2) / n) + 1, so that
          equal values stay together and a group may be empty where many are equal.

        If a column has the whole entry as its name, that column is meant. Numbers of a column may have decimal commas.
    cases : sequence of str
        at least one case; other rows are ignored.
    missing : None, "leave_out" or "unknown"
        what becomes of a case without a value (``n/a`` and the like): refused, not in the result, or a case of the
        value "unknown".
    settled : collection of str
        cases whose values have been used as they are spelled, and are not refused for it any more.
    note : function
        gets sentences on what was assumed.

    Raises GroupsError for the first problem in this order: the file, its columns, the entries, rows and values of the
    cases, a continuous column without bins, values that look alike, a single group, a group of one case. The messages
    name columns and cases, but no value of the table.
    """
    assert group_by, "there is nothing to group by"
    assert cases, "there is no case"
    header = read_header(path, cases)
    entries = [_entry(header, text) for text in group_by]
    _check_entries(header, entries, group_by)
    values = read_values(header, [entry.column for entry in entries], list(dict.fromkeys(cases)))
    if header.encoding:
        note(f"{path} is not in Unicode and was read as {header.encoding}: save it in UTF-8 if names look wrong.")
    columns = [{case: known_value(row[i]) for case, row in values.items()} for i in range(len(entries))]
    if missing == "leave_out":
        there = [case for case in values if all(column[case] is not None for column in columns)]
        columns = [{case: column[case] for case in there} for column in columns]
        if not there:
            raise GroupsError(f"{path} has no case with a value of {joined(list(group_by))}: use other columns.")
    _check_values(header, entries, columns, missing is not None)
    for entry, column in zip(entries, columns, strict=True):
        _check_spellings(header, entry, column, settled)
    names = [_names(entry, column) for entry, column in zip(entries, columns, strict=True)]
    groups = {case: JOINT.join(of_case[case] for of_case in names) for case in columns[0]}
    _check_groups(header, group_by, groups)
    return groups


def _entry(header: Header, text: str) -> _Entry:
    column, colon, bins = text.rpartition(":")
    if not colon or text in header.columns:
        header.index(text)
        return _Entry(text)
    header.index(column)
    if re.fullmatch(r"q\d+", bins.strip()):
        return _Entry(column, quantiles=int(bins.strip()[1:]))
    return _Entry(column, tuple(edge.strip() for edge in bins.split(",")))


def _check_entries(header: Header, entries: Sequence[_Entry], group_by: Sequence[str]) -> None:
    for column, number in Counter(entry.column for entry in entries).items():
        if number > 1:
            raise GroupsError(f"The column '{column}' of {header.path} is asked for {number} times: name it once.")
    for entry, text in zip(entries, group_by, strict=True):
        edges = [number_in(edge) for edge in entry.edges]
        if entry.binned and not (_ascend(edges) if edges else (entry.quantiles or 0) >= 2):
            raise GroupsError(
                f"The bins of '{text}' for {header.path} are neither ascending numbers nor q and a number from 2 on: "
                f"write for example {entry.column}:40,60 or {entry.column}:q4."
            )


def _check_values(header: Header, entries: Sequence[_Entry], columns: Sequence[Column], may_miss: bool) -> None:
    for entry, column in zip(entries, columns, strict=True):
        absent = sorted(case for case, value in column.items() if value is None)
        if absent and not may_miss:
            raise GroupsError(
                f"{header.path} has no value in the column '{entry.column}' for {listed(absent)}: fill it in, start "
                "the campaign with -missing_group leave_out (without them) or -missing_group unknown (as a group), or "
                f"write a {'number' if entry.binned else 'word such as unknown'}."
            )
    for entry, column in zip(entries, columns, strict=True):
        words = sorted(case for case, number in numbers_of(column).items() if number is None)
        if entry.binned and words:
            commas = has_commas(column)
            raise GroupsError(
                f"{header.path} has a value that is not a number in the column '{entry.column}' for {listed(words)}: "
                + ("write all numbers with a decimal point, none for thousands." if commas else "")
                + ("" if commas else f"correct it, or group by '{entry.column}' without bins.")
            )
    for entry, column in zip(entries, columns, strict=True):
        numbers_of_column = set(numbers_of(column).values())
        if not entry.binned and None not in numbers_of_column and len(numbers_of_column) > _MOST_NUMBERS:
            raise GroupsError(
                f"The column '{entry.column}' of {header.path} has more than {_MOST_NUMBERS} different numbers: cut it "
                f"into bins by {entry.column}:q4 (four groups of about equal size) or {entry.column}:EDGE,EDGE,..."
            )


def _check_spellings(header: Header, entry: _Entry, column: Column, settled: Collection[str]) -> None:
    for cases_of in () if entry.binned else look_alikes(column):
        if not all({*settled}.intersection(cases) for cases in cases_of.values()):
            shown = joined([f"{len(cases)} (such as {min(cases)})" for cases in cases_of.values()])
            raise GroupsError(
                f"The column '{entry.column}' of {header.path} spells what seems to be one value in {len(cases_of)} "
                f"ways, which differ in capitals or in how a number is written, in {shown} cases: spell it in one way."
            )


def _names(entry: _Entry, values: Column) -> dict[str, str]:
    known = {case: value for case, value in values.items() if value is not None}
    if not entry.binned:
        given = next((value for value in known.values() if value.casefold() == UNKNOWN), UNKNOWN)
        return {case: given if value is None else value for case, value in values.items()}
    numbers = {case: number for case, number in numbers_of(known).items() if number is not None}
    absent = dict.fromkeys([case for case in values if case not in known], f"{entry.column}_{UNKNOWN}")
    if entry.quantiles is not None:
        bins = _quantile_bins(numbers, entry.quantiles)
        return absent | {case: f"{entry.column}_q{k + 1}of{entry.quantiles}" for case, k in bins.items()}
    name, edges = entry.column, entry.edges
    between = [f"{low}<={name}<{high}" for low, high in itertools.pairwise(edges)]
    names = [f"{name}<{edges[0]}", *between, f"{name}>={edges[-1]}"]
    bounds = [float(edge) for edge in edges]
    return absent | {case: names[bisect.bisect_right(bounds, number)] for case, number in numbers.items()}


def _quantile_bins(numbers: Mapping[str, float], bins: int) -> dict[str, int]:
    # by the mean rank of equal values, in integers: independent of rounding and of the order of the cases
    ordered = sorted(numbers.values())
    return {
        case: bins * (bisect.bisect_left(ordered, number) + bisect.bisect_right(ordered, number)) // (2 * len(ordered))
        for case, number in numbers.items()
    }


def _check_groups(header: Header, group_by: Sequence[str], groups: Mapping[str, str]) -> None:
    by = ", ".join(f"'{text}'" for text in group_by)
    counts = Counter(groups.values())
    # the message names cases and not groups, because the column may hold names or dates
    if len(counts) == 1:
        raise GroupsError(
            f"All {len(groups)} cases are in one group by {by} of {header.path}: use columns or bins in which they "
            "differ."
        )
    if single := sorted(case for case, group in groups.items() if counts[group] == 1):
        raise GroupsError(
            f"By {by} of {header.path} {listed(single)} would each be the only case of a group: merge groups in the "
            "table, or use fewer columns or bins, because one case neither represents a group nor stays anonymous."
        )


def _ascend(numbers: Sequence[float | None]) -> bool:
    known = [number for number in numbers if number is not None]
    return len(known) == len(numbers) and known == sorted(set(known))
