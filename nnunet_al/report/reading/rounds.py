"""A round as it is on disk: its batch, its model's metrics, what it was trained on, seconds, weights of groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from nnunet_al.campaign.cost import AnnotationCost, total_cost
from nnunet_al.campaign.folders import RoundFolder
from nnunet_al.campaign.ledger import Commit
from nnunet_al.campaign.stages import is_done
from nnunet_al.campaign.status import FINAL_STAGE
from nnunet_al.files import read_json

BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError)
"""What a file that is torn, edited by hand or of another version makes of reading it."""


@dataclass(frozen=True)
class GroupResult:
    """A group of cases: test cases, their mean Dice, its share of what was trained on, and its weight in scoring."""

    cases: int
    dice: float | None
    share: float | None
    weight: float | None = None


@dataclass(frozen=True)
class Fairness:
    """Δ, ESSP and the largest gap between groups (None where they cannot be compared), and each group."""

    delta: float | None
    essp: float | None
    largest_gap: float | None
    by_group: Mapping[str, GroupResult]


@dataclass(frozen=True)
class RoundResult:
    """One round; None wherever something is not known.

    Attributes
    ----------
    number : the round
    complete : whether its batch was answered
    asked_regions, asked_cases : size of its batch, and the cases that this touches
    regions, cases, voxels, foreground_voxels, contour_mm, minutes : what its model was trained on; annotated regions,
        the cases they lie in, annotated voxels, those of them that are not background, length of the annotated
        contours in mm, minutes that readers said they took
    cost : the same of the batch that the round asked for, as far as it is answered
    dice, hd95_mm : means over test cases and classes; of round 0, which has no model, None
    dice_of_class, hd95_mm_of_class : class -> mean over test cases
    fairness : where the campaign has groups of cases
    seconds : stage -> seconds, shards summed; of a stage that was interrupted, the seconds of the call that ended it
    """

    number: int
    complete: bool
    asked_regions: int | None = None
    asked_cases: int | None = None
    regions: int | None = None
    cases: int | None = None
    voxels: int | None = None
    foreground_voxels: int | None = None
    contour_mm: float | None = None
    minutes: float | None = None
    cost: AnnotationCost | None = None
    dice: float | None = None
    hd95_mm: float | None = None
    dice_of_class: Mapping[str, float] = field(default_factory=dict)
    hd95_mm_of_class: Mapping[str, float] = field(default_factory=dict)
    fairness: Fairness | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def read_round(
    round_: RoundFolder, commits: Sequence[Commit], withdrawn: Sequence[str], remarks: list[str]
) -> RoundResult:
    """Read a round; of what cannot be read, a sentence is added to ``remarks``.

    What its model was trained on comes from the metrics, as it was when they were taken, and without test cases from
    the ledger's ``commits``, less cases that were ``withdrawn``.
    """
    found: dict[str, Any] = {"seconds": _seconds(round_, remarks)}
    own = [commit for commit in commits if commit.round == round_.number]
    if own:
        found["cost"] = total_cost(own, withdrawn)
    if round_.number > 0 and commits:
        before = [commit for commit in commits if commit.round < round_.number]
        try:
            if round_.ledger_mark.is_file():  # rounds of earlier versions have none
                before = list(commits[: read_json(round_.ledger_mark)["entries"]])
        except BROKEN:
            remarks.append(_unreadable(round_, round_.ledger_mark.name))
        found |= total_cost(before, withdrawn).to_json()
    for path, understand in ((round_.batch, _batch), (round_.metrics, _metrics), (round_.group_weights, _weights)):
        if not path.is_file():
            continue
        try:
            found |= understand(read_json(path))
        except BROKEN:
            remarks.append(_unreadable(round_, path.name))
    weights, fairness = found.pop("weights", {}), found.get("fairness")
    if fairness is not None:
        by_group = {name: replace(of, weight=weights.get(name)) for name, of in fairness.by_group.items()}
        found["fairness"] = replace(fairness, by_group=by_group)
    return RoundResult(round_.number, is_done(round_.stages, FINAL_STAGE), **found)


def _batch(content: dict[str, Any]) -> dict[str, Any]:
    cases = Counter(region["case"] for region in content["regions"])
    return {"asked_regions": cases.total(), "asked_cases": len(cases)}


def _metrics(content: dict[str, Any]) -> dict[str, Any]:
    # without test cases there is nothing but what the model was trained on
    mean, over_classes = content.get("mean", {}), content.get("foreground_mean", {})
    whole = ("regions", "cases", "voxels", "foreground_voxels")
    trained_on: dict[str, float | None] = {name: _whole(content.get(f"trained_on_{name}")) for name in whole}
    trained_on |= {name: _finite(content.get(f"trained_on_{name}")) for name in ("contour_mm", "minutes")}
    return {
        **{name: value for name, value in trained_on.items() if value is not None},
        "dice": _finite(over_classes.get("dice")),
        "hd95_mm": _finite(over_classes.get("hd95_mm")),
        "dice_of_class": {name: float(values["dice"]) for name, values in mean.items()},
        "hd95_mm_of_class": {name: float(values["hd95_mm"]) for name, values in mean.items()},
        "fairness": _fairness(content["groups"]) if "groups" in content else None,
    }


def _fairness(groups: dict[str, Any]) -> Fairness:
    by_group = {
        name: GroupResult(entry["n"], _finite(entry["dice"]), _finite(entry["annotated_share"]))
        for name, entry in groups["by_group"].items()
    }
    return Fairness(_finite(groups["delta"]), _finite(groups["essp"]), _finite(groups["largest_gap"]), by_group)


def _weights(content: dict[str, Any]) -> dict[str, Any]:
    return {"weights": {name: _finite(entry["weight"]) for name, entry in content["by_group"].items()}}


def _seconds(round_: RoundFolder, remarks: list[str]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for path in sorted(round_.stages.glob("[!.]*.json")):
        try:
            spent = float(read_json(path)["seconds"])
        except BROKEN:
            remarks.append(_unreadable(round_, f"stages/{path.name}"))
            continue
        stage = path.stem.partition("_part_")[0]
        seconds[stage] = seconds.get(stage, 0.0) + spent
    return seconds


def _whole(value: int | None) -> int | None:
    return None if value is None else int(value)


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and isfinite(value) else None


def _unreadable(round_: RoundFolder, name: str) -> str:
    return f"Round {round_.number}: {name} cannot be read, so that it is left out."
