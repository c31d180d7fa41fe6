"""A campaign whose table of participants lacks values, or names subjects of whom there are several images."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_rounds import run_round, snapshot

from nnunet_al.campaign.decisions import Decisions

CASES = [f"phantom_{number:03d}" for number in range(10)]
SEX = dict(zip(CASES, ["F", "M"] * 5, strict=True))


@pytest.fixture
def al_groups(module_roots, tmp_path, monkeypatch, capsys):
    """Do a round with a table of these values; the exit code and what was said."""
    (tmp_path / "results").mkdir()
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))

    def do(values: dict[str, str], *arguments: str, encoding: str = "utf-8") -> tuple[int, str, str]:
        table = tmp_path / "participants.tsv"
        table.write_text("\n".join(["participant_id\tsex", *("\t".join(row) for row in values.items())]), encoding)
        before = snapshot(tmp_path / "results")
        code = run_round("-groups", table, "-group_by", "sex", *arguments)
        if code == 2:
            assert snapshot(tmp_path / "results") == before
        return (code, *capsys.readouterr())

    return do


def decided(tmp_path: Path) -> Decisions:
    (file,) = (tmp_path / "results").glob("*/al/*/fold_*/campaign.json")
    return Decisions.load(file)


def test_cases_without_a_group_are_refused_or_left_out_from_pool_and_test(al_groups, tmp_path):
    values = {**SEX, "phantom_001": "n/a", "phantom_002": ""}
    code, _, error = al_groups(values)
    assert code == 2
    assert "phantom_001 and phantom_002" in error
    assert "-missing_group leave_out" in error
    code, said, _ = al_groups(values, "-missing_group", "leave_out")
    assert code == 0
    assert "2 cases without a group are left out of the campaign: phantom_001, phantom_002." in said
    without = decided(tmp_path)
    assert {*without.groups} == {*without.cases} == {*CASES} - {"phantom_001", "phantom_002"}
    assert without.left_out_cases == ("phantom_001", "phantom_002")
    assert (without.missing_group, without.starts_from) == ("leave_out", "nothing")
    # the same call continues it, also once the table is complete, and other options are refused
    assert al_groups(values, "-missing_group", "leave_out", "-round", "0")[0] == 0
    assert al_groups(SEX, "-round", "0")[0] == 0
    code, _, error = al_groups(values, "-missing_group", "unknown", "-round", "0")
    assert code == 2
    assert "-missing_group unknown (started with leave_out)" in error


def test_cases_without_a_group_are_one(al_groups, tmp_path):
    values = {**SEX, "phantom_001": "n/a", "phantom_002": "NA"}
    assert al_groups(values, "-missing_group", "unknown")[0] == 0
    assert [case for case, group in decided(tmp_path).groups.items() if group == "unknown"] == [
        "phantom_001",
        "phantom_002",
    ]
    assert len(decided(tmp_path).cases) == 10


def test_a_test_set_without_groups_is_refused(al_groups, tmp_path):
    assert al_groups(SEX, "-tag", "all")[0] == 0
    test = decided(tmp_path).test_cases
    code, _, error = al_groups({**SEX, **dict.fromkeys(test, "n/a")}, "-missing_group", "leave_out")
    assert code == 2
    assert "no case of the test set" in error


def test_capitals_are_refused(al_groups):
    code, _, error = al_groups({**SEX, "phantom_003": "m"})
    assert code == 2
    assert "in 4 (such as phantom_001) and 1 (such as phantom_003) cases" in error


def test_subjects_and_an_encoding_are_found_with_a_line(al_groups, tmp_path):
    code, said, _ = al_groups({"sub-phantom": "F", **dict.fromkeys(CASES[:5], "É")}, encoding="cp1252")
    assert code == 0
    assert "was read as Windows-1252" in said
    assert {case: decided(tmp_path).groups[case] for case in CASES} == dict(zip(CASES, "É" * 5 + "F" * 5, strict=True))


def test_what_becomes_of_missing_groups_needs_groups(module_roots, capsys):
    assert run_round("-missing_group", "unknown") == 2
    assert "-groups" in capsys.readouterr().err
    assert not any(module_roots.results.glob("*/al/*"))
