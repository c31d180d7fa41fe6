from __future__ import annotations

import numpy as np
import pytest

from nnunet_al.errors import DatasetError
from nnunet_al.synthetic.design import CohortDesign, cases_of, folds_of


def test_both_groups_are_equally_large_in_both_parts_and_mixed():
    cases = cases_of(CohortDesign(cases=60, test_cases=30))
    groups = [case.group for case in cases]
    assert groups[:60].count("group1") == groups[:60].count("group2") == 30
    assert groups[60:].count("group1") == 15
    assert [case.name for case in cases[:2]] == ["sub-0000", "sub-0001"]
    firsts = groups[::2]
    assert 10 < firsts.count("group1") < 35  # which of two is biased is chance


def test_a_case_does_not_depend_on_how_many_there_are():
    few, many = cases_of(CohortDesign(cases=6)), cases_of(CohortDesign(cases=20, test_cases=4, paired=True))
    assert few == many[:6]


def test_strengths_are_those_of_the_paper():
    strong, weak, none = (cases_of(CohortDesign(cases=2000, strength=name)) for name in ("strong", "weak", "none"))
    for cases, mean in ((strong, 4), (weak, 2)):
        drawn = [case.strength for case in cases if case.group == "group1"]
        assert np.mean(drawn) == pytest.approx(mean, abs=0.2)
        assert np.std(drawn) == pytest.approx(2, abs=0.15)
        assert {case.strength for case in cases if case.group == "group2"} == {0.0}
    assert {case.strength for case in none} == {0.0}
    # one seed, one set of draws: the weak cohort is the strong one with two less
    assert all(a.strength - b.strength == pytest.approx(2) for a, b in zip(strong, weak, strict=True) if a.strength)


def test_folds_hold_each_case_once_keep_couples_together_and_are_stratified():
    design = CohortDesign(cases=40, test_cases=10)
    cases = {case.name: case for case in cases_of(design)[:40]}
    folds = folds_of(design)
    assert len(folds) == 5
    assert sorted(name for fold in folds for name in fold["val"]) == sorted(cases)
    for fold in folds:
        assert set(fold["train"]) | set(fold["val"]) == set(cases)
        assert not set(fold["train"]) & set(fold["val"])
        groups = [cases[name].group for name in fold["val"]]
        assert groups.count("group1") == groups.count("group2") == 4
        couples = {cases[name].couple for name in fold["val"]}
        assert len(couples) == 4
    assert folds_of(CohortDesign(cases=40, seed=1)) != folds
    assert len(folds_of(CohortDesign(cases=6))) == 3
    assert folds_of(CohortDesign(cases=2)) == []


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"cases": 0}, "0 training"),
        ({"cases": 7}, "7 training"),
        ({"cases": 4, "test_cases": 3}, "3 test cases"),
        ({"cases": 4, "test_cases": -2}, "-2 test cases"),
        ({"cases": 10002}, "10000"),
        ({"strength": "medium"}, "'medium'"),
        ({"shape": (20, 20)}, "too small"),
        ({"shape": (4, 20, 20)}, "too small"),
        ({"shape": (20, 513, 20)}, "too large"),
        ({"spacing_mm": (1.0, 1.0, 0.0)}, "0.1 to 10"),
        ({"spacing_mm": (1.0, float("nan"), 1.0)}, "0.1 to 10"),
    ],
)
def test_an_impossible_design_is_a_sentence(wrong, says):
    with pytest.raises(DatasetError, match=says):
        CohortDesign(**wrong)
