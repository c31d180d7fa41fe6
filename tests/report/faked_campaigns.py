"""Campaigns as they lie on disk, with the numbers that a test wants and nothing trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.files import write_json
from nnunet_al.pool.boxes import Region
from nnunet_al.pool.table import save_regions
from nnunet_al.strategies import catalog

STAGES = {"labels": 2.0, "plan": 1.0, "train": 60.0, "evaluate": 10.0, "score": 20.0, "select": 0.5, "annotate": 0.1}


def fake_campaign(
    root: Path,
    strategy: str,
    dice_R: Sequence[float | None],
    *,
    dataset: str = "Dataset501_Phantom",
    configuration: str = "2d",
    unit: str = "slice",
    fold: int = 0,
    seed: int = 0,
    tag: str | None = None,
    test: str = "fold",
    initial: int = 10,
    budget: int = 10,
    classes: Mapping[str, float] | None = None,
    groups: Mapping[str, tuple[float, float]] | None = None,
    old: bool = False,
    pool: int | None = None,
    **decided: Any,
) -> CampaignFolder:
    """Write a campaign whose models of round 1, 2, ... reached ``dice_R`` (None: not evaluated).

    ``classes``: name -> what its Dice is above the mean. ``groups``: name -> (what its Dice is above the mean, share of
    what is annotated). ``old``: with the metrics of versions that knew regions and voxels only. ``pool``: regions
    of each case.
    """
    name = "__".join([configuration, strategy, f"seed{seed}", *([tag] if tag else [])])
    folder = CampaignFolder(root / dataset / "al" / name / f"fold_{fold}")
    whole = {
        "dataset": dataset, "configuration": configuration, "fold": fold, "seed": seed, "tag": tag,
        "recipe": catalog.get(strategy), "unit": unit, "overlap": 0.5, "budget": budget, "initial": initial,
        "rounds": 10, "engine": None, "test": test, "trainer": "nnUNetTrainerAL", "planner": "nnUNetPlannerAL",
        "plans": "nnUNetPlans", "epochs": 5, "iterations": 50, "batch_size": None, "optimizer": "sgd",
        "dropout": "decoder", "from_scratch": False, "pretrained_weights": None, "update_intensities": False,
        "pool_cases": ("a", "b", "c"), "test_cases": ("t",), "hashes": {"a": "0" * 64},
        "group_by": ("sex",) if groups else (),
    }  # fmt: skip
    Decisions(**whole | decided).save(folder.decisions)
    if pool is not None:
        regions = [Region(case, ((n, n + 1), (0, 1), (0, 1))) for case in "abc" for n in range(pool)]
        save_regions(folder.root / "regions.npz", regions)
    fake_round(folder, 0, initial, {"select": 0.1, "annotate": 0.1})
    for number, dice in enumerate(dice_R, start=1):
        fake_round(folder, number, budget, STAGES)
        if dice is not None:
            regions = initial + budget * (number - 1)
            write_json(folder.round(number).metrics, metrics(number, regions, dice, classes, groups, old))
    return folder


def fake_round(folder: CampaignFolder, number: int, regions: int, seconds: Mapping[str, float]) -> None:
    round_ = folder.round(number)
    asked = [{"rank": n + 1, "case": "abc"[n % 3], "box": [[0, 1]] * 3, "score": None} for n in range(regions)]
    write_json(round_.batch, {"round": number, "strategy": "any", "regions": asked})
    for stage, spent in seconds.items():
        write_json(round_.stages / f"{stage}.json", {"stage": stage, "seconds": spent})


def metrics(
    number: int,
    regions: int,
    dice: float,
    classes: Mapping[str, float] | None = None,
    groups: Mapping[str, tuple[float, float]] | None = None,
    old: bool = False,
) -> dict[str, Any]:
    content: dict[str, Any] = {"round": number, "trained_on_regions": regions, "trained_on_voxels": 1000 * regions}
    if not old:
        content |= {"trained_on_cases": 3, "trained_on_foreground_voxels": 150 * regions}
        content |= {"trained_on_contour_mm": 87.5 * regions, "trained_on_minutes": None}
    content["mean"] = {
        name: {"dice": dice + above, "hd95_mm": 10 - 5 * dice} for name, above in (classes or {"organ": 0.0}).items()
    }
    content["foreground_mean"] = {"dice": dice, "hd95_mm": 10 - 5 * dice}
    if groups:
        differences = [abs(above) for above, _ in groups.values()]
        content["groups"] = {
            "group_by": ["sex"], "number": len(groups), "n": 8, "overall": dice, "delta": sum(differences),
            **({} if old else {"delta_absent_as_1": sum(differences) + 0.05}),
            "essp": dice / (1 + sum(differences)), "largest_gap": max(differences) + min(differences),
            "by_group": {
                name: {"n": 4, "dice": dice + above, "annotated_share": share}
                for name, (above, share) in groups.items()
            },
        }  # fmt: skip
    return content
