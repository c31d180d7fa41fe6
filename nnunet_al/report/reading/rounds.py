"""A round as it is on disk: its batch, its model's metrics, what it was trained on, seconds, weights of groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from nnunet_al.campaign.commits import AnnotationCost, Commit, total_cost, unanswered_regions
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import RoundFolder
from nnunet_al.campaign.stages import FINAL_STAGE, is_done
from nnunet_al.campaign.standing import is_taken_over
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
    waits_for : regions of the batch that are not annotated yet, less those of withdrawn cases
    regions, cases, voxels, foreground_voxels, contour_mm, minutes : what its model was trained on; annotated regions,
        the cases they lie in, annotated voxels, those of them that are not background, length of the annotated
        contours in mm, minutes that readers said they took
    cost : the same of the batch that the round asked for, as far as it is answered
    dice, hd95_mm : means over test cases and classes; of round 0, which has no model, None
    dice_of_class, hd95_mm_of_class : class -> mean over test cases; None where it is not known
    tested_on : the test cases that these are means over
    fairness : where the campaign has groups of cases
    seconds : stage -> seconds, shards summed; of a stage that was interrupted, the seconds of the call that ended it;
        without ``train`` where the model was taken over from another campaign, which spent them
    """

    number: int
    complete: bool
    asked_regions: int | None = None
    asked_cases: int | None = None
    waits_for: int | None = None
    regions: int | None = None
    cases: int | None = None
    voxels: int | None = None
    foreground_voxels: int | None = None
    contour_mm: float | None = None
    minutes: float | None = None
    cost: AnnotationCost | None = None
    dice: float | None = None
    hd95_mm: float | None = None
    dice_of_class: Mapping[str, float | None] = field(default_factory=dict)
    hd95_mm_of_class: Mapping[str, float | None] = field(default_factory=dict)
    tested_on: frozenset[str] = frozenset()
    fairness: Fairness | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def read_round(round_: RoundFolder, commits: Sequence[Commit], decided: Decisions, remarks: list[str]) -> RoundResult:
    """Read a round; of what cannot be read, a sentence is added to ``remarks``.

    What its model was trained on comes from the metrics, as it was when they were taken, and what they lack from the
    ledger's ``commits``, less cases that were withdrawn.
    """
    withdrawn = decided.withdrawn_cases
    found: dict[str, Any] = {"seconds": _seconds(round_, remarks), "tested_on": _test_cases(decided, round_.number)}
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
            if path == round_.batch:
                missing = unanswered_regions(round_, commits)
                found["waits_for"] = sum(region.case in decided.pool_cases for region in missing)
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
    understand: dict[str, Callable[[Any], float | None]] = {
        **dict.fromkeys(("regions", "cases", "voxels", "foreground_voxels"), _whole),
        **dict.fromkeys(("contour_mm", "minutes"), _finite),
    }
    known = {name: of(content[key]) for name, of in understand.items() if (key := f"trained_on_{name}") in content}
    return {
        **known,  # what older metrics lack is the ledger's
        "dice": _finite(over_classes.get("dice")),
        "hd95_mm": _finite(over_classes.get("hd95_mm")),
        "dice_of_class": {name: _finite(values.get("dice")) for name, values in mean.items()},
        "hd95_mm_of_class": {name: _finite(values.get("hd95_mm")) for name, values in mean.items()},
        "fairness": _fairness(content["groups"]) if "groups" in content else None,
        **({"tested_on": frozenset(content["cases"])} if "cases" in content else {}),
    }


def _test_cases(decided: Decisions, number: int) -> frozenset[str]:
    """Return the test cases as they were when a round's model was evaluated: later changes are taken back."""
    cases = set(decided.test_cases)
    for change in decided.pool_changes:
        if change["round"] > number:
            cases ^= set(change["test"])
    return frozenset(cases)


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
    if is_taken_over(round_.root):
        seconds.pop("train", None)
    return seconds


def _whole(value: int | None) -> int | None:
    return None if value is None else int(value)


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and isfinite(value) else None


def _unreadable(round_: RoundFolder, name: str) -> str:
    return f"Round {round_.number}: {name} cannot be read, so that it is left out."
