from __future__ import annotations

import traceback
from pathlib import Path

import numpy as np
import pytest

from nnunet_al.errors import GroupsError, NnunetALError
from nnunet_al.evaluation.groups import read_groups
from nnunet_al.evaluation.participants import listed

HEADER = "participant_id\tname\tbirth_date\tsex\tage\tsite\tcode"
PEOPLE = """
sub-01\tAda Aalto\t1931-03-01\tF\t31\tA\t1
sub-02\tBob Bauer\t1932-04-02\tM\t42\tA\t2
sub-03\tCid Costa\t1933-05-03\tF\t53\tB\t1
sub-04\tDan Drury\t1934-06-04\tM\t64\tB\t2
sub-05\tEve Ewing\t1935-07-05\tF\t40\tA\t1
sub-06\tFay Frost\t1936-08-06\tM\t60\tB\t2
sub-99\tZoe Zweig\t1999-09-09\tX\t99\tZ\t9
""".strip()
CASES = ["sub-01", "sub-02", "sub-03", "sub-04", "sub-05", "sub-06"]
SECRETS = [cell for row in PEOPLE.splitlines() for cell in row.split("\t")[1:3]] + [
    "sub-99",
    "Zoe",
    "Drury",
    "1999",
    "53",
]


@pytest.fixture
def table(tmp_path):
    def write(text: str = f"{HEADER}\n{PEOPLE}\n", name: str = "participants.tsv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return write


def refusal(path: Path, group_by: list[str], cases: list[str] | None = None) -> str:
    with pytest.raises(GroupsError) as caught:
        read_groups(path, group_by, CASES if cases is None else cases)
    message = str(caught.value)
    # all that a user may get to see, causes included
    shown = "".join(traceback.format_exception_only(caught.value)) + str(caught.value.__cause__)
    assert str(path) in message
    assert not [secret for secret in SECRETS if secret in shown.replace(str(path), "")], message
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


def ages(table, numbers: list[float]) -> tuple[Path, list[str]]:
    cases = [f"sub-{i:03d}" for i in range(len(numbers))]
    rows = [f"{case}\t{number}" for case, number in zip(cases, numbers, strict=True)]
    return table("\n".join(["participant_id\tage", *rows])), cases


def test_a_plain_column_gives_its_values_for_the_cases_only(table):
    groups = read_groups(table(), ["sex"], CASES)
    assert groups == dict(zip(CASES, "FMFMFM", strict=True))
    assert list(groups) == CASES


def test_few_numbers_are_groups_as_they_are(table):
    assert read_groups(table(), ["code"], CASES) == dict(zip(CASES, "121212", strict=True))


def test_edges_are_open_above_and_closed_below(table):
    assert read_groups(table(), ["age:40.5, 60"], CASES) == {
        "sub-01": "age<40.5",
        "sub-02": "40.5<=age<60",
        "sub-03": "40.5<=age<60",
        "sub-04": "age>=60",
        "sub-05": "age<40.5",
        "sub-06": "age>=60",  # 60 itself
    }


def test_one_edge_makes_two_groups(table):
    groups = read_groups(table(), ["age:42"], CASES)
    assert groups == {
        "sub-01": "age<42",
        "sub-02": "age>=42",
        "sub-03": "age>=42",
        "sub-04": "age>=42",
        "sub-05": "age<42",
        "sub-06": "age>=42",
    }


def test_quantile_groups_by_hand(table):
    # ranks of the ages 31 40 42 53 60 64: three pairs
    groups = read_groups(table(), ["age:q3"], CASES)
    assert groups == {
        "sub-01": "age_q1of3",
        "sub-05": "age_q1of3",
        "sub-02": "age_q2of3",
        "sub-03": "age_q2of3",
        "sub-06": "age_q3of3",
        "sub-04": "age_q3of3",
    }


@pytest.mark.parametrize("bins", [2, 3, 4, 7])
@pytest.mark.parametrize("n", [14, 29, 40])
def test_quantile_groups_of_different_numbers_differ_by_one_case_at_most(table, bins, n):
    numbers = np.random.default_rng(bins).permutation(n) + 0.5
    groups = read_groups(*_with(ages(table, numbers.tolist()), [f"age:q{bins}"]))
    sizes = [list(groups.values()).count(f"age_q{k + 1}of{bins}") for k in range(bins)]
    assert sum(sizes) == n
    assert max(sizes) - min(sizes) <= 1
    # and they ascend
    ordered = [groups[f"sub-{i:03d}"] for i in np.argsort(numbers)]
    assert ordered == sorted(ordered)


@pytest.mark.parametrize(
    "numbers,expected",
    [
        ([5, 5, 5, 6, 6], [1, 1, 1, 2, 2]),
        ([4, 4, 5, 5, 5], [1, 1, 2, 2, 2]),
        # the median is 5; (r + e/2) / n = 1.5/5, 4/5
        ([5, 5, 5, 7, 8], [1, 1, 1, 2, 2]),
        # 1/7, 4/7 and 6.5/7
        ([1, 1, 5, 5, 5, 5, 9], [1, 1, 2, 2, 2, 2, 2]),
    ],
)
def test_equal_numbers_stay_in_one_quantile_group(table, numbers, expected):
    groups = read_groups(*_with(ages(table, numbers), ["age:q2"]))
    assert list(groups.values()) == [f"age_q{k}of2" for k in expected]


def test_several_entries_intersect_in_the_order_given(table):
    cases = [f"sub-0{i}" for i in range(1, 9)]
    text = "id\tsex\tsite\n" + "\n".join(f"{case}\t{'FM'[i % 2]}\t{'AB'[i // 4]}" for i, case in enumerate(cases))
    groups = read_groups(table(text), ["sex", "site"], cases)
    assert list(groups.values()) == ["F & A", "M & A"] * 2 + ["F & B", "M & B"] * 2
    assert read_groups(table(text), ["site", "sex"], cases)["sub-01"] == "A & F"


@pytest.mark.parametrize("entry", ["sex", "age:q3", "age:42"])
def test_the_order_of_rows_and_cases_changes_nothing(table, entry):
    first = read_groups(table(), [entry], CASES)
    turned = table("\n".join([HEADER, *reversed(PEOPLE.splitlines())]))
    assert read_groups(turned, [entry], list(reversed(CASES))) == first


@pytest.mark.parametrize("entry", ["sex", "age:q3", "age:42"])
def test_people_who_are_no_cases_change_nothing(table, entry):
    first = read_groups(table(), [entry], CASES)
    others = "sub-77\tGus Grant\t1937-01-01\tn/a\told\nsub-77\tGus Grant\t1937-01-01\tF\t1\tQ\t"
    assert read_groups(table(f"{HEADER}\n{others}\n{PEOPLE}"), [entry], CASES) == first


@pytest.mark.parametrize(
    "ids,cases",
    [
        (["sub-a", "sub-b", "sub-c", "sub-d"], ["a", "b", "c", "d"]),
        (["a", "b", "c", "d"], ["sub-a", "sub-b", "sub-c", "sub-d"]),
        (["a", "sub-b", "c", "sub-d"], ["a", "b", "sub-c", "sub-d"]),
    ],
)
def test_the_prefix_of_bids_may_be_added_or_taken_away(table, ids, cases):
    text = "participant_id,sex\n" + "\n".join(f"{name},{sex}" for name, sex in zip(ids, "FFMM", strict=True))
    assert list(read_groups(table(text, "p.csv"), ["sex"], cases).values()) == list("FFMM")


def test_an_exact_id_goes_before_one_with_another_prefix(table):
    # sub-a is somebody else than the case a, and each row that is a case by its very name is that case alone
    text = "participant_id,sex\nsub-a,M\na,F\nb,F\nsub-b,M\nc,M\n"
    assert read_groups(table(text, "p.csv"), ["sex"], ["a", "b", "sub-b", "sub-c"]) == {
        "a": "F",
        "b": "F",
        "sub-b": "M",
        "sub-c": "M",
    }


@pytest.mark.parametrize("name", ["participant_id", "case", "case_id", "subject", "subject_id", "id", "Participant_ID"])
def test_id_columns_by_their_names(table, name):
    text = f"sex,{name}\nF,a\nF,b\nM,c\nM,d\n"
    assert read_groups(table(text, "p.csv"), ["sex"], list("abcd")) == dict(zip("abcd", "FFMM", strict=True))


def test_participant_id_goes_before_other_ids_and_the_first_column_stands_in_for_them(table):
    text = "id,participant_id,sex\nw,a,F\nx,b,F\ny,c,M\nz,d,M\n"
    assert list(read_groups(table(text, "p.csv"), ["sex"], list("abcd"))) == list("abcd")
    text = "patient,sex\na,F\nb,F\nc,M\nd,M\n"
    assert read_groups(table(text, "p.csv"), ["sex"], list("abcd"))["c"] == "M"


@pytest.mark.parametrize(
    "name,delimiter",
    [("p.tsv", "\t"), ("p.TSV", "\t"), ("p.csv", ","), ("p.csv", ";"), ("p.txt", "|"), ("p", ";"), ("p.txt", "\t")],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_byte_order_marks_line_ends_quotes_and_blanks(table, name, delimiter, encoding, end):
    rows = [
        ["", ""],
        ["participant_id", '"group, as said"', "note"],
        [" a ", '"x"', f'"one{delimiter} ""two"""'],
        [],
        ["b", "x", '"two', 'lines"'] if delimiter == "," else ["b", '"x"', ""],
        ["c", "é"],
        ["d", "é ", "", ""],
    ]
    text = end.join(delimiter.join(row) for row in rows[1:])
    path = table(end + text, name, encoding)
    assert read_groups(path, ["group, as said"], list("abcd")) == dict(zip("abcd", "xxéé", strict=True))


def test_a_column_of_this_very_name_goes_before_an_edge(table):
    text = "id,age:40,age\na,x,1\nb,x,50\nc,y,1\nd,y,50\n"
    path = table(text, "p.csv")
    assert list(read_groups(path, ["age:40"], list("abcd")).values()) == list("xxyy")
    assert list(read_groups(path, ["age:40.0"], list("abcd")).values()) == ["age<40.0", "age>=40.0"] * 2


def test_rows_that_agree_are_one_case(table):
    again = PEOPLE.splitlines()[0].replace("31", "32")
    assert read_groups(table(f"{HEADER}\n{PEOPLE}\n{again}"), ["sex"], CASES)["sub-01"] == "F"


def test_a_missing_file_and_a_folder(tmp_path):
    assert "check the path" in refusal(tmp_path / "none.tsv", ["sex"])
    assert "check the path" in refusal(tmp_path, ["sex"])


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"id\tsex\r\nsub-01\t\x81\x8d", b"\x89PNG\r\n\x1a\n\0\0\0"])
def test_what_is_no_text(table, content):
    path = table()
    path.write_bytes(content)
    assert "UTF-8" in refusal(path, ["sex"])


def test_a_cell_that_swallows_the_file(table):
    assert "not readable" in refusal(table(f'{HEADER}\nsub-01\t"{"Zoe Zweig " * 20000}\n{PEOPLE}'), ["sex"])


@pytest.mark.parametrize("text", ["", "\n \n\t\t\r\n"])
def test_an_empty_file(table, text):
    assert "is empty" in refusal(table(text), ["sex"])


@pytest.mark.parametrize("text", [PEOPLE, PEOPLE.replace("sub-", ""), '""\t""\n'])
def test_no_header(table, text):
    assert "does not begin with names" in refusal(table(text), ["sex"])


def test_a_person_in_place_of_the_header_who_is_no_case(table):
    nobody = "sub-99\tZoe Zweig\tZoe\tX\n"
    message = refusal(table(nobody + PEOPLE.replace("\t1\n", "\n")), ["zoe"])
    assert "check that its first line names the columns" in message


def test_unknown_columns_offer_near_names_or_all(table):
    assert refusal(table(), ["Sexe"]).endswith("did you mean sex?")
    assert refusal(table(), ["AGE:40"]).endswith("did you mean age?")
    assert refusal(table(), ["handedness"]).endswith("use one of name, birth_date, sex, age, site and code.")
    assert "one column only" in refusal(table("id\nsub-01\n"), ["sex"])
    assert "one column only" in refusal(table("participant_id,sex\nsub-01,F\n", "p.tsv"), ["sex"])


@pytest.mark.parametrize("group_by", [["sex", "sex"], ["age:q2", "sex", "age:40"]])
def test_the_same_column_twice(table, group_by):
    assert f"'{group_by[0][:3]}'" in refusal(table(), group_by)


def test_a_column_that_the_table_has_twice(table):
    assert "2 columns 'sex'" in refusal(table("id,sex,sex\na,F,M\nb,M,F\n", "p.csv"), ["sex"], ["a", "b"])


@pytest.mark.parametrize(
    "bins", ["", "40,", "60,40", "40,40", "old", "nan", "inf", "q", "q0", "q1", "qq", "40;60", "1,x"]
)
def test_bad_bins(table, bins):
    message = refusal(table(), [f"age:{bins}"])
    assert "age:40,60 or age:q4" in message


def test_missing_cases_are_named_up_to_five(table):
    message = refusal(table(), ["sex"], CASES + ["new1"])
    assert "no row for 1 of 7 cases (new1)" in message
    assert "the column participant_id" in message
    message = refusal(table(), ["sex"], CASES + [f"new{i}" for i in range(8)])
    assert "(new0, new1, new2, new3, new4 and 3 more)" in message


def test_rows_that_disagree(table):
    other = PEOPLE.splitlines()[0].replace("\tF\t", "\tM\t")
    message = refusal(table(f"{HEADER}\n{PEOPLE}\n{other}"), ["site", "sex"])
    assert "sub-01 that differ in site and sex" in message


def test_a_row_with_too_many_values(table):
    slipped = PEOPLE.replace("Bob Bauer", "Bauer\tBob")
    assert "Line 3 of" in refusal(table(f"{HEADER}\n{slipped}"), ["sex"])


@pytest.mark.parametrize("value", ["", "  ", "n/a", "N/A", "NaN"])
@pytest.mark.parametrize("entry,word", [("sex", "a word such as unknown"), ("sex:q2", "a number")])
def test_absent_values_name_the_cases(table, value, entry, word):
    message = refusal(table(f"{HEADER}\n{PEOPLE}".replace("\tM\t", f"\t{value}\t")), [entry])
    assert "for sub-02, sub-04 and sub-06: fill it in" in message
    assert message.endswith(f"write {word}.")


def test_a_row_that_is_too_short_has_no_value(table):
    assert "no value in the column 'sex' for sub-01" in refusal(table(f"{HEADER}\nsub-01"), ["sex"], ["sub-01"])


@pytest.mark.parametrize("entry", ["name:40", "birth_date:q2", "sex:1,2"])
def test_words_where_numbers_are_asked_for(table, entry):
    message = refusal(table(), [entry])
    assert "sub-01, sub-02, sub-03, sub-04, sub-05 and 1 more" in message


@pytest.mark.parametrize("different,refused", [(10, False), (11, True)])
def test_a_continuous_column_asks_for_bins(table, different, refused):
    numbers = [10.25 + i % different for i in range(2 * different)]
    path, cases = ages(table, numbers)
    if refused:
        message = refusal(path, ["age"], cases)
        assert "age:q4" in message
        assert "age:EDGE,EDGE" in message
        assert ".25" not in message
    else:
        assert len(set(read_groups(path, ["age"], cases).values())) == different
    # a single word among them makes names of all
    path.write_text(path.read_text().replace("10.25", "young"))
    assert len(set(read_groups(path, ["age"], cases).values())) == different


def test_one_group(table):
    assert "All 3 cases are in one group" in refusal(table(), ["sex"], ["sub-01", "sub-03", "sub-05"])
    assert "All 6 cases are in one group" in refusal(table(), ["age:0"])


def test_a_case_that_is_alone_in_its_group_is_named(table):
    message = refusal(table(), ["sex"], ["sub-01", "sub-02", "sub-03"])
    assert "sub-02 would each be the only case of a group" in message
    assert "merge groups" in message


@pytest.mark.parametrize("column", ["name", "birth_date"])
def test_what_is_different_for_everybody_is_not_shown(table, column):
    assert "sub-01, sub-02, sub-03, sub-04, sub-05 and 1 more would each be the only case of a group" in refusal(
        table(), [column]
    )


@pytest.mark.parametrize("nobody", ["", "n/a", "NA", "None", "null", "nan"])
def test_words_for_no_value_are_no_group(table, nobody):
    text = f"case,sex\na,F\nb,F\nc,{nobody}\nd,{nobody}\n"
    assert "no value in the column 'sex' for c and d" in refusal(table(text, "p.csv"), ["sex"], list("abcd"))


def test_a_line_break_in_a_value_breaks_no_line(table):
    text = 'case,sex\na,"F\nx"\nb,"F\nx"\nc,M\nd,M\n'
    assert set(read_groups(table(text, "p.csv"), ["sex"], list("abcd")).values()) == {"F x", "M"}


def test_the_first_reason_is_given(table):
    # a list of requests, each mended in one more way than the one before
    path = table(f"{HEADER}\n{PEOPLE}\n{PEOPLE.splitlines()[0]}".replace("F\t53", "n/a\told"))
    steps = [
        (["sexe", "age:x", "age:9"], ["gone"], "did you mean"),
        (["age:x", "age:9"], ["gone"], "2 times"),
        (["sex", "age:x"], ["gone"], "bins"),
        (["sex", "age:q2"], ["gone"], "no row"),
        (["sex", "age:q2"], CASES, "no value"),
        (["age:q2"], CASES, "not a number"),
        (["site"], ["sub-01", "sub-02"], "one group"),
        (["site"], ["sub-01", "sub-02", "sub-03"], "the only case of a group"),
    ]
    for group_by, cases, reason in steps:
        assert reason in refusal(path, group_by, cases)
    assert set(read_groups(path, ["site"], CASES).values()) == {"A", "B"}


def test_it_is_an_error_that_commands_print():
    assert issubclass(GroupsError, NnunetALError)


def test_lists_of_names():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcdefg"), 2) == "a, b and 5 more"


def _with(path_and_cases, group_by):
    path, cases = path_and_cases
    return path, group_by, cases
