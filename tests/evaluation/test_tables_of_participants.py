"""Tables of participants as people have them: encodings, delimiters, ids of BIDS, missing values, spellings."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from nnunet_al.errors import GroupsError
from nnunet_al.evaluation.groups import read_groups

SEX = dict(zip("abcdef", "FFFMMM", strict=True))


def written(folder: Path, rows: list[str], name: str = "p.csv", encoding: str = "utf-8", start: str = "") -> Path:
    path = folder / name
    path.write_bytes((start + "\r\n".join(rows) + "\r\n").encode(encoding))
    return path


def refused(path: Path, group_by: list[str], cases, **options) -> str:
    with pytest.raises(GroupsError) as caught:
        read_groups(path, group_by, cases, **options)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize(
    "delimiter, name", [(",", "p.csv"), (";", "p.csv"), ("\t", "p.csv"), ("\t", "p.tsv"), ("|", "p")]
)
@pytest.mark.parametrize("said", [False, True])
def test_what_spreadsheets_save(tmp_path, encoding, delimiter, name, said):
    rows = [delimiter.join(row) for row in [("participant_id", "größe"), *((c, f"{s}é") for c, s in SEX.items())]]
    notes = []
    path = written(tmp_path, rows, name, encoding, f"sep={delimiter}\r\n" if said else "")
    assert read_groups(path, ["größe"], list(SEX), note=notes.append) == {c: f"{s}é" for c, s in SEX.items()}
    assert len(notes) == (encoding == "cp1252")
    assert all("Windows-1252" in note and str(path) in note for note in notes)


@pytest.mark.parametrize("line", ["sep=;", 'sep=";', '"sep=;"', "SEP=; ", "sep=|", "sep=;;;"])
def test_excels_line_names_the_delimiter_whatever_the_header_holds(tmp_path, line):
    delimiter = "|" if "|" in line else ";"
    rows = [delimiter.join((c, s, "a,b,c")) for c, s in {"case": "sex, said", **SEX}.items()]
    if line == 'sep=";':
        assert refused(written(tmp_path, [line, *rows]), ["sex, said"], list(SEX))
    else:
        assert read_groups(written(tmp_path, [line, *rows]), ["sex, said"], list(SEX)) == SEX


def test_a_header_with_commas_of_its_own_is_cut_where_the_ids_are(tmp_path):
    rows = [
        ";".join(row)
        for row in [("case", "sex", "weight, in kg, dry, at night"), *((c, s, "1") for c, s in SEX.items())]
    ]
    assert read_groups(written(tmp_path, rows), ["sex"], list(SEX)) == SEX


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_a_byte_order_mark_alone_is_an_empty_file(tmp_path, mark):
    (tmp_path / "p.csv").write_bytes(mark)
    assert "is empty" in refused(tmp_path / "p.csv", ["sex"], ["a"])


@pytest.mark.parametrize(
    "cases",
    [
        ["sub-01_ses-01", "sub-01_ses-02", "sub-02_ses-01", "sub-02_ses-02"],
        ["sub-01_T1w", "sub-01_ses-1_run-2_T1w", "sub-02_T1w", "sub-02_T2w"],
        ["01_T1w", "01", "02_T1w", "sub-02"],
    ],
)
@pytest.mark.parametrize("prefix", ["sub-", ""])
def test_the_files_of_a_subject_take_its_row(tmp_path, cases, prefix):
    rows = ["participant_id,sex", f"{prefix}01,F", f"{prefix}02,M", f"{prefix}011,X", f"{prefix}0,X", f"{prefix}01-2,X"]
    assert list(read_groups(written(tmp_path, rows), ["sex"], cases).values()) == list("FFMM")


@pytest.mark.parametrize(
    "case", ["sub-011", "sub-011_T1w", "sub-0", "sub-01-T1w", "sub-01T1w", "xsub-01_T1w", "_sub-01"]
)
def test_a_subject_is_no_other_whose_name_begins_alike(tmp_path, case):
    path = written(tmp_path, ["participant_id,sex", "sub-01,F", "sub-02,M"])
    assert f"no row for 1 of 2 cases ({case})" in refused(path, ["sex"], [case, "sub-02"])


def test_a_row_of_the_very_case_goes_before_that_of_its_subject(tmp_path):
    path = written(tmp_path, ["id,sex", "sub-01,F", "sub-01_ses-2,M", "ses,F", "sub-02,M", "02_ses-2,F"])
    cases = ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1", "sub-02_ses-2"]
    assert list(read_groups(path, ["sex"], cases).values()) == list("FMMF")


@pytest.mark.parametrize("ids", [("sub-01", "01"), ("sub-01", "sub-01_ses-1"), ("A", "A_1")])
@pytest.mark.parametrize("sexes", ["FF", "FM"])
def test_rows_that_match_a_case_equally_closely_have_to_agree(tmp_path, ids, sexes):
    case = f"{ids[1].replace('sub-', '')}_T1w" if "sub" in ids[0] else f"{ids[1]}_T1w"
    case = case if case.startswith("A") else f"sub-{case}"
    rows = ["id,sex", *(f"{name},{sex}" for name, sex in zip(ids, sexes, strict=True)), "x,F", "y,M", "z,M"]
    path = written(tmp_path, rows)
    if sexes == "FF":
        assert read_groups(path, ["sex"], [case, "x", "y", "z"])[case] == "F"
    else:
        assert f"the case {case} that differ in sex: keep one of them" in refused(path, ["sex"], [case, "x", "y", "z"])


NOTHING = ["n/a", "N/A", "", " ", "NA", "nan", "NaN", "None", "null", "NULL", "#N/A", "#NA", "<NA>", "n.a.", "-nan"]


@pytest.mark.parametrize("nothing", NOTHING)
def test_a_missing_value_is_refused_left_out_or_a_group(tmp_path, nothing):
    path = written(tmp_path, ["case,sex,age", *(f"{c},{s},4{i}" for i, (c, s) in enumerate(SEX.items())),
                              f"g,{nothing},{nothing}", f"h,{nothing},50"])  # fmt: skip
    cases = [*SEX, "g", "h"]
    sentence = refused(path, ["sex"], cases)
    assert "-missing_group leave_out" in sentence
    assert "-missing_group unknown" in sentence
    assert read_groups(path, ["sex"], cases, "leave_out") == SEX
    assert read_groups(path, ["sex"], cases, "unknown") == {**SEX, "g": "unknown", "h": "unknown"}
    # the bins are those of the others
    ages = read_groups(path, ["age:q2"], cases, "leave_out")
    assert list(ages) == [*SEX, "h"]


def test_a_missing_number_has_no_bin_and_joins_those_without(tmp_path):
    rows = ["case,age,sex", "a,30,F", "b,31,F", "c,70,F", "d,71,F", "e,n/a,F", "f,n/a,F"]
    groups = read_groups(written(tmp_path, rows), ["age:q2"], list("abcdef"), "unknown")
    assert list(groups.values()) == ["age_q1of2"] * 2 + ["age_q2of2"] * 2 + ["age_unknown"] * 2
    groups = read_groups(written(tmp_path, rows), ["sex", "age:50"], list("abcdef"), "unknown")
    assert list(groups.values()) == ["F & age<50"] * 2 + ["F & age>=50"] * 2 + ["F & age_unknown"] * 2


def test_unknown_as_the_table_spells_it(tmp_path):
    rows = ["case,sex", "a,F", "b,F", "c,Unknown", "d,n/a"]
    groups = read_groups(written(tmp_path, rows), ["sex"], list("abcd"), "unknown")
    assert list(groups.values()) == ["F", "F", "Unknown", "Unknown"]


def test_leaving_out_must_leave_groups(tmp_path):
    path = written(tmp_path, ["case,sex", "a,n/a", "b,n/a"])
    assert "no case with a value" in refused(path, ["sex"], ["a", "b"], missing="leave_out")
    path = written(tmp_path, ["case,sex", "a,F", "b,F", "c,n/a"])
    assert "one group" in refused(path, ["sex"], list("abc"), missing="leave_out")


ALIKE = [("M", "m"), ("male", "Male"), ("1", "1.0"), ("01", "1"), ("2,0", "2"), ("é", "e\N{COMBINING ACUTE ACCENT}"),
         ("Ⅳ", "IV"), ("1e1", "10"), ("straße", "STRASSE"), ("0", "-0")]  # fmt: skip


@pytest.mark.parametrize("one, other", ALIKE)
def test_two_spellings_of_a_value_are_refused(tmp_path, one, other):
    rows = ["case;group", f"a;{one}", f"b;{one}", f"c;{other}", f"d;{other}", "e;9", "f;9"]
    path = written(tmp_path, rows)
    sentence = refused(path, ["group"], list("abcdef"))
    assert "2 (such as a) and 2 (such as c) cases" in sentence
    # a campaign that has begun with them goes on, and no third spelling joins it
    settled = list("abcd")
    assert read_groups(path, ["group"], list("abcdef"), settled=settled)["c"] == " ".join(other.split())
    assert refused(path, ["group"], list("abcdef"), settled=["a", "b", "e"])


def test_other_values_are_no_spellings_of_one(tmp_path):
    rows = [
        "case;group",
        *(f"{case};{value}" for case, value in zip("abcdefgh", ["M", "F", "M1", "F 1"] * 2, strict=True)),
    ]
    assert len(set(read_groups(written(tmp_path, rows), ["group"], list("abcdefgh")).values())) == 4


def test_decimal_commas_are_numbers(tmp_path):
    rows = ["case;age", "a;39,5", "b;40", "c;40,25", "d;1e2"]
    groups = read_groups(written(tmp_path, rows), ["age:40.1"], list("abcd"))
    assert list(groups.values()) == ["age<40.1", "age<40.1", "age>=40.1", "age>=40.1"]
    many = ["case,age", *(f'c{i},"{i % 11},5"' for i in range(22))]
    assert "more than 10 different numbers" in refused(written(tmp_path, many), ["age"], [f"c{i}" for i in range(22)])


@pytest.mark.parametrize(
    "values", [["1,234", "2,345"], ["39,5", "40.5"], ["1.234,5", "2.345,5"], ["1,234.5", "2,345.5"]]
)
def test_a_comma_that_may_mean_thousands_is_no_number(tmp_path, values):
    path = written(tmp_path, ["case;age", *(f"{case};{value}" for case, value in zip("ab", values, strict=True))])
    assert "not a number" in refused(path, ["age:40"], ["a", "b"])


TABLES = [
    ("a workbook", b"PK\x03\x04 xl/workbook.xml", "workbook"),
    ("an old workbook", b"\xd0\xcf\x11\xe0\xa1\xb1", "workbook"),
    ("bytes", bytes(range(256)), "not readable as text"),
    ("zeros", bytes(100), "not readable as text"),
    ("half of UTF-16", "case,sex\r\na,F\r\n".encode("utf-16")[:-1], "not readable as text"),
    ("nothing but Excel's line", b"sep=;\r\n", "is empty"),
    ("another delimiter than said", b"sep=;\r\ncase,sex\r\na,F\r\n", "one column only"),
    ("one column", b"case\r\na\r\n", "one column only"),
    ("no header", b"a,F\r\nb,M\r\n", "does not begin with names"),
    ("another column", b"case,gender\r\na,F\r\nb,M\r\n", "no column 'sex'"),
    ("a column twice", b"case,sex,sex\r\na,F,F\r\nb,M,M\r\n", "2 columns 'sex'"),
    ("a case less", b"case,sex\r\na,F\r\n", "no row for 1 of 2 cases (b)"),
    ("a case twice", b"case,sex\r\na,F\r\na,M\r\nb,M\r\n", "differ in sex"),
    ("a comma too many", b"case,sex\r\na,F,1\r\nb,M\r\n", "more values than there are names"),
]  # fmt: skip


@pytest.mark.parametrize("content, sentence", [line[1:] for line in TABLES], ids=[line[0] for line in TABLES])
def test_what_is_no_table_of_the_cases(tmp_path, content, sentence):
    (tmp_path / "p.csv").write_bytes(content)
    assert sentence in refused(tmp_path / "p.csv", ["sex"], ["a", "b"])
