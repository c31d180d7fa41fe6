"""results.csv: one row per round, for a spreadsheet."""

from __future__ import annotations

from typing import Any

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.stage_markers import is_as_left
from nnunet_al.campaign.stages import EVALUATE
from nnunet_al.files import read_json, write_table
from nnunet_al.terminal import say

_COST = ("trained_on_cases", "trained_on_foreground_voxels", "trained_on_contour_mm", "trained_on_minutes")


def write_results(folder: CampaignFolder) -> None:
    """Write the table of all evaluated rounds anew from their ``metrics.json``.

    Columns: round, the training data of its model (regions, voxels, cases, foreground voxels, length of outlines in mm,
    the readers' minutes; the last ones empty where they are not known), mean foreground Dice and HD95 (mm) over the
    test cases, then Dice and HD95 of each class; where the campaign has groups: Δ, ESSP and the largest gap with their
    intervals, Δ where a class that is neither there nor predicted counts as Dice 1, and the test cases, Dice and share
    of the annotated regions of each group.
    """
    evaluated = []
    for round_ in folder.rounds():
        if not round_.metrics.is_file():
            continue
        if is_as_left(round_.stages, EVALUATE, round_.metrics):
            evaluated.append(read_json(round_.metrics))
        else:
            say(f"    {round_.metrics} is damaged, so that {folder.results.name} is without it: restore it")
    rows = [row(metrics) for metrics in evaluated if "foreground_mean" in metrics]
    if rows:
        write_table(folder.results, rows)


def row(metrics: dict[str, Any]) -> dict[str, str | int]:
    """Flatten one round's metrics to a row of the table."""
    cells: dict[str, str | int] = {
        "round": metrics["round"],
        "trained_on_regions": metrics["trained_on_regions"],
        "trained_on_voxels": metrics["trained_on_voxels"],
        **{name: "" if metrics.get(name) is None else metrics[name] for name in _COST},
        "dice": f"{metrics['foreground_mean']['dice']:.4f}",
        "hd95_mm": f"{metrics['foreground_mean']['hd95_mm']:.3f}",
    }
    for name, values in metrics["mean"].items():
        cells[f"dice_{name}"] = f"{values['dice']:.4f}"
        cells[f"hd95_mm_{name}"] = f"{values['hd95_mm']:.3f}"
    if "groups" in metrics:
        cells |= _group_cells(metrics["groups"])
    return cells


def _group_cells(groups: dict[str, Any]) -> dict[str, str | int]:
    cells: dict[str, str | int] = {}
    for name in ("delta", "essp", "largest_gap"):
        cells[name] = four_digits(groups[name])
        low, high = groups["intervals"][name] or (None, None)
        cells[f"{name}_low"], cells[f"{name}_high"] = four_digits(low), four_digits(high)
    cells["delta_absent_as_1"] = four_digits(delta_absent_as_1(groups))
    for group, entry in groups["by_group"].items():
        cells[f"cases_of_{group}"] = entry["n"]
        cells[f"dice_of_{group}"] = four_digits(entry["dice"])
        cells[f"annotated_share_of_{group}"] = four_digits(entry["annotated_share"])
    return cells


def delta_absent_as_1(groups: dict[str, Any]) -> float | None:
    """Return Δ where a class that is neither there nor predicted counts as Dice 1: all that older metrics have."""
    value: float | None = groups.get("delta_absent_as_1", groups["delta"])
    return value


def four_digits(value: float | None, absent: str = "") -> str:
    """Return a share or a Dice coefficient for people, and ``absent`` where there is none."""
    return absent if value is None else f"{value:.4f}"
