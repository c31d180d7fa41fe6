"""The cells of the benchmark: one row for each model of each campaign, in one CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.file_locks import file_lock
from nnunet_al.files import read_json, write_table

if TYPE_CHECKING:
    from evidence_campaigns import Campaign

KEY = ("dataset", "kind", "strategy", "seed", "round")
NUMBERS = {
    **{"budget": int, "seed": int, "round": int, "regions": int, "voxels": int, "foreground_voxels": int, "cases": int},
    **{"dice": float, "hd95_mm": float, "contour_mm": float, "delta": float, "essp": float},
    **{"train_seconds": float, "other_seconds": float},
}

Row = dict[str, Any]


def row_of(campaign: Campaign, folder: CampaignFolder, number: int) -> Row:
    """Return the row of a round that was evaluated.

    ``kind`` is "" for campaigns that are compared, "full" for models of the whole pool. Dice and HD95 are means over
    the test cases and foreground classes; ``voxels``, ``foreground_voxels``, ``contour_mm`` and ``cases`` are those of
    the annotations that the model was trained on; ``delta`` and ``essp`` are empty without groups.
    """
    protocol, round_ = campaign.protocol, folder.round(number)
    metrics = read_json(round_.metrics)
    groups = metrics.get("groups", {})
    seconds = {path.stem: read_json(path)["seconds"] for path in round_.stages.glob("*.json")}
    classes = "; ".join(f"{name} {found['dice']:.4f}" for name, found in metrics["mean"].items())
    return {
        "dataset": protocol.name,
        "kind": campaign.kind,
        "unit": protocol.unit,
        "budget": None if campaign.is_full else protocol.budget,
        "strategy": campaign.strategy,
        "seed": campaign.seed,
        "round": number,
        "regions": metrics["trained_on_regions"],
        "dice": _rounded(metrics["foreground_mean"]["dice"], 5),
        "hd95_mm": _rounded(metrics["foreground_mean"]["hd95_mm"], 4),
        "voxels": metrics["trained_on_voxels"],
        "foreground_voxels": metrics["trained_on_foreground_voxels"],
        "contour_mm": _rounded(metrics["trained_on_contour_mm"], 1),
        "cases": metrics["trained_on_cases"],
        "delta": _rounded(groups.get("delta"), 5),
        "essp": _rounded(groups.get("essp"), 5),
        "dice_of_classes": classes,
        "train_seconds": _rounded(seconds.pop("train", None), 1),
        "other_seconds": _rounded(sum(seconds.values()), 1),
    }


def read_cells(file: Path) -> list[Row]:
    """Read all rows, sorted; nothing where there is no file. Empty cells of numbers are None."""
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        rows = [{name: _value(name, text) for name, text in row.items()} for row in csv.DictReader(lines)]
    return sorted(rows, key=key_of)


def add_cells(file: Path, rows: Iterable[Row]) -> None:
    """Put rows into the file, in place of those with the same key; several processes may do that at once."""
    with file_lock(file.with_suffix(".lock"), timeout_seconds=600):
        cells = {key_of(row): row for row in (*read_cells(file), *rows)}
        write_table(file, [_written(cells[key]) for key in sorted(cells)])


def key_of(row: Row) -> tuple[Any, ...]:
    """Return what names a cell."""
    return tuple(row[name] for name in KEY)


def compared(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the campaigns that are compared with each other."""
    return [row for row in rows if row["kind"] == ""]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)


def _written(row: Row) -> Row:
    return {name: "" if value is None else value for name, value in row.items()}


def _value(name: str, text: str) -> Any:
    kind = NUMBERS.get(name, str)
    return None if text == "" and kind is not str else kind(text)
