"""Fairness between the groups of the test cases, where a structure is not in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nnunet_al.campaign.overview import _group_table
from nnunet_al.cli.evaluate import group_lines
from nnunet_al.rounds.groups import fairness


def report(dice_of_case: dict[str, float | None], groups: dict[str, str], roi: Sequence[str] = ()) -> dict[str, Any]:
    """The fairness of a round in which None stands for a lesion that is neither there nor predicted."""
    decided = SimpleNamespace(groups=groups, group_by=["sex"], roi_classes=roi, starts_from="nothing")
    context: Any = SimpleNamespace(
        decided=decided,
        data=SimpleNamespace(dataset=SimpleNamespace(classes={"lesion": 1})),
        rng=lambda _: np.random.default_rng(0),
        annotated_regions=[],
        commits=[],
    )
    absent = {"dice": 1.0, "hd95_mm": 0.0, "absent": True}
    of_case = {
        case: {"lesion": absent if dice is None else {"dice": dice, "hd95_mm": 3.0}}
        for case, dice in dice_of_case.items()
    }
    return fairness(context, of_case)


def cohort(n: int, prevalence: dict[str, float], quality: float) -> tuple[dict[str, float | None], dict[str, str]]:
    cases = {f"{group}{i}": quality if i < share * n else None for group, share in prevalence.items() for i in range(n)}
    return cases, {case: case[0] for case in cases}


def test_delta_does_not_measure_how_common_a_lesion_is():
    found = report(*cohort(50, {"F": 0.2, "M": 0.8}, 0.6))
    assert (found["overall"], found["delta"], found["largest_gap"]) == pytest.approx((0.6, 0, 0))
    assert [entry["n"] for entry in found["by_group"].values()] == [10, 40]
    # counted as 1: means 0.2 · 0.6 + 0.8 = 0.92 and 0.68, of all 0.80, so Δ = 0.12 + 0.12
    assert found["delta_absent_as_1"] == pytest.approx(0.24)
    assert "0.2400" in "\n".join(group_lines(found))
    line = _group_table([{"round": 1, "metrics": {"groups": found}}])[1]
    assert line.split()[1] == "0.0000"
    assert line.split()[-1] == "0.2400"


def test_where_the_lesion_is_in_every_case_both_rules_are_one():
    found = report({"a": 0.5, "b": 0.7, "c": 0.9}, {"a": "F", "b": "F", "c": "M"})
    assert found["delta"] == found["delta_absent_as_1"] == pytest.approx(0.1 + 0.2)


def test_a_lesion_that_is_predicted_and_not_there_counts():
    found = report({"a": 0.0, "b": None, "c": 1.0}, {"a": "F", "b": "F", "c": "M"})
    assert found["by_group"]["F"]["dice"] == 0
    assert found["delta"] == pytest.approx(1)


def test_without_any_lesion_there_is_nothing_to_compare():
    found = report(*cohort(3, {"F": 0, "M": 0}, 0.6))
    assert (found["n"], found["number"], found["overall"], found["delta"]) == (0, 0, None, None)
    assert found["delta_absent_as_1"] == 0
    assert "nothing to compare" in "\n".join(group_lines(found))
    assert "-" in _group_table([{"round": 1, "metrics": {"groups": found}}])[1]
