"""Marks are read out of batch.csv however a spreadsheet saves it, and nothing is guessed."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from nnunet_al.annotation.review_sheet import Review, read_sheet
from nnunet_al.errors import ReturnError

HANDED_OUT = """\
rank,case,region,score,strategy,reviewed,minutes
1,case_a,"case_a[3:4,0:40,8:48]",0.9,usimf,yes,12.5
2,case_a,"case_a[9:10,0:40,8:48]",0.8,usimf,,
3,Fall Ö,"Fall Ö[0:9,0:40,8:48]",0.7,usimf,x,3
"""
MEANT = {("case_a", 1): Review(True, 12.5), ("case_a", 2): Review(False, None), ("Fall Ö", 3): Review(True, 3.0)}


def sheet(tmp_path: Path, content: str | bytes, name: str = "batch.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(tmp_path: Path, content: str | bytes) -> dict[tuple[str, int], Review]:
    return read_sheet(sheet(tmp_path, content))


def saved_with(delimiter: str, **options: object) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, **options).writerows(csv.reader(io.StringIO(HANDED_OUT)))
    return text.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_any_delimiter_encoding_and_line_ending(tmp_path, delimiter, encoding, ending):
    assert read(tmp_path, saved_with(delimiter, lineterminator=ending).encode(encoding)) == MEANT


def test_quotes_around_everything(tmp_path):
    assert read(tmp_path, saved_with(";", quoting=csv.QUOTE_ALL)) == MEANT


def test_excels_line_that_names_the_delimiter(tmp_path):
    assert read(tmp_path, "sep=;\r\n" + saved_with(";")) == MEANT
    with pytest.raises(ReturnError, match=r"line 3 of .*batch\.csv"):
        read(tmp_path, "sep=;\nrank;case;reviewed\n1;a;perhaps\n")


def test_empty_rows_and_columns_do_not_matter(tmp_path):
    rows = [",,,,,,,", *(f"{line},,," for line in HANDED_OUT.splitlines()), ",,,,,,,,,,,,", "", "   "]
    assert read(tmp_path, "\n".join(rows)) == MEANT
    assert read(tmp_path, "\n".join(f",{line}" for line in HANDED_OUT.splitlines())) == MEANT


def test_columns_in_any_order_and_case_among_others(tmp_path):
    text = "Note;MINUTES; Reviewed ;Rank;CASE\nlooks odd;12,5;Yes;1.0;case_a\n;;;2;case_a\nlast line;;;;\n"
    assert read(tmp_path, text) == {("case_a", 1): Review(True, 12.5), ("case_a", 2): Review(False, None)}


def test_minutes_may_be_absent(tmp_path):
    assert read(tmp_path, "case,rank,reviewed\na,1,yes\n") == {("a", 1): Review(True, None)}


@pytest.mark.parametrize("mark", ["yes", "Y", "TRUE", "1", "x", "X", "ja", "Oui", "si", "sí", "sì", "done", " yes "])
def test_what_is_a_mark(tmp_path, mark):
    assert read(tmp_path, f"case,rank,reviewed\na,1,{mark}\n")["a", 1].reviewed


@pytest.mark.parametrize("mark", ["", " ", "no", "N", "FALSE", "0"])
def test_what_is_none(tmp_path, mark):
    assert not read(tmp_path, f"case,rank,reviewed\na,1,{mark}\n")["a", 1].reviewed


@pytest.mark.parametrize("mark", ["perhaps", "2", "yes?", "in progress", "✓", "да"])
def test_what_is_neither_is_refused(tmp_path, mark):
    with pytest.raises(ReturnError, match=rf"mark '{mark.replace('?', '[?]')}' under reviewed in line 2 of .*batch"):
        read(tmp_path, f"case,rank,reviewed\na,1,{mark}\n")


@pytest.mark.parametrize("written, minutes", [("12", 12), ("12.5", 12.5), ('"12,5"', 12.5), (".5", 0.5), ("0", 0)])
def test_minutes(tmp_path, written, minutes):
    assert read(tmp_path, f"case,rank,reviewed,minutes\na,1,yes,{written}\n")["a", 1].minutes == minutes


@pytest.mark.parametrize("written", ["-3", "nan", "inf", "1e3", "ten", "12:30", "1.234.5", "5 min"])
def test_minutes_that_are_none_are_refused(tmp_path, written):
    with pytest.raises(ReturnError, match=r"under minutes in line 2 of .*batch\.csv"):
        read(tmp_path, f"case,rank,reviewed,minutes\na,1,yes,{written}\n")


def test_a_decimal_comma_that_became_a_column_is_noticed(tmp_path):
    with pytest.raises(ReturnError, match=r"more values in line 2 .* decimal comma"):
        read(tmp_path, "case,rank,reviewed,minutes\na,1,yes,12,5\n")


@pytest.mark.parametrize("rank", ["", "one", "1.5", "-1", "1,5"])
def test_a_rank_that_is_none_is_refused(tmp_path, rank):
    with pytest.raises(ReturnError, match=r"rank .* in line 3 of .*batch\.csv"):
        read(tmp_path, f"case;rank;reviewed\na;1;yes\na;{rank};yes\n")


def test_a_marked_row_without_a_case_is_refused(tmp_path):
    with pytest.raises(ReturnError, match=r"no case in line 2"):
        read(tmp_path, "case,rank,reviewed\n,1,yes\n")


@pytest.mark.parametrize(
    "header, missing",
    [("rank,reviewed", "case"), ("case,reviewed", "rank"), ("case,rank", "reviewed"), ("a,b", "rank and no column")],
)
def test_missing_columns_are_named(tmp_path, header, missing):
    with pytest.raises(ReturnError, match=rf"batch\.csv has no column .*{missing}"):
        read(tmp_path, header + "\n1,yes\n")


def test_lines_that_a_spreadsheet_took_for_single_cells_are_refused(tmp_path):
    lines = [f'"{line.replace(chr(34), chr(34) * 2)}"' for line in HANDED_OUT.splitlines()]
    with pytest.raises(ReturnError, match="no column case"):
        read(tmp_path, "\n".join(lines))


def test_two_columns_of_one_name_are_refused(tmp_path):
    with pytest.raises(ReturnError, match="more than one column reviewed"):
        read(tmp_path, "case,rank,reviewed,Reviewed\na,1,yes,no\n")


def test_rows_that_contradict_each_other_are_refused(tmp_path):
    head = "case,rank,reviewed,minutes\n"
    assert read(tmp_path, f"{head}a,1,yes,5\na,1,y,\na,1.0,x,5.0\n") == {("a", 1): Review(True, 5.0)}
    for other in ("a,1,,5", "a,1,yes,6"):
        with pytest.raises(ReturnError, match=r"case a, rank 1, in line 3 of"):
            read(tmp_path, f"{head}a,1,yes,5\n{other}\n")


@pytest.mark.parametrize("content", [b"PK\x03\x04 rest", b"\xd0\xcf\x11\xe0 rest"])
def test_a_workbook_is_to_be_saved_as_csv(tmp_path, content):
    for name in ("batch.csv", "batch.xlsx"):
        with pytest.raises(ReturnError, match=rf"{name} is a workbook .* save it as CSV"):
            read_sheet(sheet(tmp_path, content, name))


@pytest.mark.parametrize("content", [b"", b"\n\n", b",,,\n"])
def test_an_empty_table_is_refused(tmp_path, content):
    with pytest.raises(ReturnError, match=r"batch\.csv is empty"):
        read(tmp_path, content)


def test_what_is_no_text_or_not_there_is_refused(tmp_path):
    with pytest.raises(ReturnError, match="not readable as text"):
        read(tmp_path, b"case,rank,reviewed\n\x81\x8d,1,yes\n")
    with pytest.raises(ReturnError, match="cannot be read"):
        read_sheet(tmp_path / "nothing.csv")


@pytest.mark.parametrize("row", ['"a,1,yes\n', '"a"b,1,yes\n'])
def test_a_quote_that_does_not_end_is_refused(tmp_path, row):
    with pytest.raises(ReturnError, match="quotes in line 2"):
        read(tmp_path, "case,rank,reviewed\n" + row)


def test_the_file_is_left_as_it_was(tmp_path):
    path = sheet(tmp_path, HANDED_OUT)
    read_sheet(path)
    assert path.read_bytes() == HANDED_OUT.encode()
