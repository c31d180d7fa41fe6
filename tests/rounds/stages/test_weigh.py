"""The member of an ensemble of folds that an annotated case is measured by."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.files import write_json
from nnunet_al.nnunet.splits import member_splits, training_split
from nnunet_al.rounds.stages.weigh import held_out_by

CASES = [f"c{number:02d}" for number in range(12)]


def held_out(
    folder: Path, annotated: list[int], members: int = 3, dice_of: str = "held_out", from_scratch: bool = False
) -> dict[str, int]:
    """Of the last round, with so many annotated cases in each of the rounds from 1 on."""
    campaign = CampaignFolder(folder)
    for number, count in enumerate(annotated, start=1):
        cases = CASES[:count]
        lists = [training_split(cases)] * 2 + member_splits(cases, members)  # the campaign's own fold is 1
        file = campaign.round(number).view.preprocessed / "Dataset001_X" / "splits_final.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, [{"train": train, "val": val} for train, val in lists])
    recipe = SimpleNamespace(parameters={"dice_of": dice_of})
    context: Any = SimpleNamespace(
        decided=SimpleNamespace(recipe=recipe, from_scratch=from_scratch, dataset="Dataset001_X"),
        number=len(annotated),
        folder=campaign,
        annotated_cases=CASES[: annotated[-1]],
        member_folds=[2 + member for member in range(members)],
    )
    return held_out_by(context)


def test_each_case_has_the_member_that_leaves_it_out(tmp_path):
    found = held_out(tmp_path, [7])
    for member, (train, val) in enumerate(member_splits(CASES[:7], 3)):
        assert [case for case, fold in found.items() if fold == 2 + member] == val
        assert not set(val) & set(train)
    assert sorted(found) == CASES[:7]


def test_members_that_go_on_from_former_ones_know_the_cases_of_these(tmp_path):
    assert held_out(tmp_path, [6, 12]) == {}
    assert sorted(held_out(tmp_path, [6, 12], from_scratch=True)) == CASES


def test_without_a_member_for_each_case_there_is_none(tmp_path):
    assert held_out(tmp_path, [1]) == {}
    assert held_out(tmp_path, [4], members=0) == {}
    assert held_out(tmp_path, [7], dice_of="model") == {}
    assert sorted(held_out(tmp_path, [2], members=5)) == CASES[:2], "several members share a split"
