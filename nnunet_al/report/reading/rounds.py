"""A round as it is on disk: its batch, its model's metrics and training set, seconds, weights of groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from nnunet_al.campaign.commits import AnnotationCost, Commit, awaited_regions, total_cost
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import RoundFolder
from nnunet_al.campaign.pool_state import pool_of_round
from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.campaign.results import delta_absent_as_1
from nnunet_al.files import read_json

READ_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError)
"""Exceptions raised by reading a file that is torn, edited by hand or of another version."""


@dataclass(frozen=True)
class GroupResult:
    """A group of cases: its test cases, their mean Dice, its share of the training set, and its weight in scoring."""

    cases: int
    dice: float | None
    share: float | None
    weight: float | None = None


@dataclass(frozen=True)
class Fairness:
    """Δ, ESSP and the largest gap between groups (None where groups cannot be compared), and each group's result.

    ``delta_absent_as_1`` is Δ where a class that is neither there nor predicted counts as Dice 1.
    """

    delta: float | None
    essp: float | None
    largest_gap: float | None
    delta_absent_as_1: float | None
    by_group: Mapping[str, GroupResult]


@dataclass(frozen=True)
class RoundResult:
    """One round; a value that is not known is None.

    Attributes
    ----------
    number : the round
    complete : whether its batch was answered
    asked_regions, asked_cases : number of regions in its batch, and of cases that they lie in
    waits_for : number of regions of the batch that are not annotated yet, without those of withdrawn cases
    regions, cases, voxels, foreground_voxels, contour_mm, minutes : size of its model's training set: annotated
        regions, the cases they lie in, annotated voxels, annotated foreground voxels, length of the annotated contours
        in mm, minutes that readers gave for them
    pool_percent : 100 x ``regions`` / regions that the pool had then
    cost : the same numbers for the batch that the round asked for, as far as it is annotated
    dice, hd95_mm : means over test cases and classes; None for round 0, which has no model
    slice_dice : mean over slices of the test cases and classes; None for 3d networks, and for earlier versions
    dice_of_class, hd95_mm_of_class : class -> mean over test cases
    tested_on : the test cases of these means
    fairness : None where the campaign has no groups of cases
    seconds : stage -> seconds, summed over shards; a stage that was interrupted counts the seconds of the call that
        completed it; no ``train`` where the model was taken over from another campaign
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
    pool_percent: float | None = None
    cost: AnnotationCost | None = None
    dice: float | None = None
    hd95_mm: float | None = None
    slice_dice: float | None = None
    dice_of_class: Mapping[str, float | None] = field(default_factory=dict)
    hd95_mm_of_class: Mapping[str, float | None] = field(default_factory=dict)
    tested_on: frozenset[str] = frozenset()
    fairness: Fairness | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def read_round(
    round_: RoundFolder,
    progress: CampaignProgress,
    commits: Sequence[Commit],
    decided: Decisions,
    regions_of_case: Mapping[str, int],
    warnings: list[str],
) -> RoundResult:
    """Read a round of a pool with these regions; each file that cannot be read adds a sentence to ``warnings``.

    The size of the training set is read from the metrics; numbers that they lack are counted in the ledger's
    ``commits``, without withdrawn cases.
    """
    withdrawn = decided.withdrawn_cases
    unreadable: list[str] = []
    found: dict[str, Any] = {"seconds": progress.seconds(round_.number, unreadable)}
    warnings += [_unreadable(round_, f"stages/{name}.json") for name in unreadable]
    found["tested_on"] = _test_cases(decided, round_.number)
    own = [commit for commit in commits if commit.round == round_.number]
    if own:
        found["cost"] = total_cost(own, withdrawn)
    if round_.number > 0 and commits:
        before = [commit for commit in commits if commit.round < round_.number]
        try:
            if round_.ledger_mark.is_file():  # rounds of earlier versions have none
                before = list(commits[: read_json(round_.ledger_mark)["entries"]])
        except READ_ERRORS:
            warnings.append(_unreadable(round_, round_.ledger_mark.name))
        found |= total_cost(before, withdrawn).to_json()
    for path, parse in ((round_.batch, _batch), (round_.metrics, _metrics), (round_.group_weights, _weights)):
        if not path.is_file():
            continue
        try:
            found |= parse(read_json(path))
            if path == round_.batch:
                found["waits_for"] = len(awaited_regions(round_, commits, decided.pool_cases))
        except READ_ERRORS:
            warnings.append(_unreadable(round_, path.name))
    weights, fairness = found.pop("weights", {}), found.get("fairness")
    if fairness is not None:
        by_group = {name: replace(of, weight=weights.get(name)) for name, of in fairness.by_group.items()}
        found["fairness"] = replace(fairness, by_group=by_group)
    pool = sum(regions_of_case.get(case, 0) for case in pool_of_round(decided, round_.number))
    if pool and found.get("regions") is not None and decided.starts_from == "nothing":
        found["pool_percent"] = 100 * found["regions"] / pool
    return RoundResult(round_.number, progress.is_complete(round_.number), **found)


def _batch(content: dict[str, Any]) -> dict[str, Any]:
    cases = Counter(region["case"] for region in content["regions"])
    return {"asked_regions": cases.total(), "asked_cases": len(cases)}


def _metrics(content: dict[str, Any]) -> dict[str, Any]:
    # without test cases the metrics hold the size of the training set only
    mean, over_classes = content.get("mean", {}), content.get("foreground_mean", {})
    parse: dict[str, Callable[[Any], float | None]] = {
        **dict.fromkeys(("regions", "cases", "voxels", "foreground_voxels"), _whole),
        **dict.fromkeys(("contour_mm", "minutes"), _finite),
    }
    known = {name: of(content[key]) for name, of in parse.items() if (key := f"trained_on_{name}") in content}
    return {
        **known,  # numbers that older metrics lack come from the ledger
        "dice": _finite(over_classes.get("dice")),
        "hd95_mm": _finite(over_classes.get("hd95_mm")),
        "slice_dice": _finite(over_classes.get("slice_dice")),
        "dice_of_class": {name: _finite(values.get("dice")) for name, values in mean.items()},
        "hd95_mm_of_class": {name: _finite(values.get("hd95_mm")) for name, values in mean.items()},
        "fairness": _fairness(content["groups"]) if "groups" in content else None,
        **({"tested_on": frozenset(content["cases"])} if "cases" in content else {}),
    }


def _test_cases(decided: Decisions, number: int) -> frozenset[str]:
    """Return the test cases as they were when a round's model was evaluated: later changes are undone."""
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
    delta, essp, gap = (_finite(groups[name]) for name in ("delta", "essp", "largest_gap"))
    return Fairness(delta, essp, gap, _finite(delta_absent_as_1(groups)), by_group)


def _weights(content: dict[str, Any]) -> dict[str, Any]:
    return {"weights": {name: _finite(entry["weight"]) for name, entry in content["by_group"].items()}}


def _whole(value: int | None) -> int | None:
    return None if value is None else int(value)


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and isfinite(value) else None


def _unreadable(round_: RoundFolder, name: str) -> str:
    return f"Round {round_.number}: {name} cannot be read and is left out."
