"""results.csv: one row a round that a person can open."""

from __future__ import annotations

import csv
import io
from typing import Any

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.files import read_json, write_text


def write_results(folder: CampaignFolder) -> None:
    """Write the table of all evaluated rounds anew from their ``metrics.json``.

    Columns: round, the regions and voxels that its model was trained on, mean foreground Dice and HD95 (mm) over the
    test cases, then Dice and HD95 of each class.
    """
    rows = [row(read_json(round_.metrics)) for round_ in folder.rounds() if round_.metrics.is_file()]
    if not rows:
        return
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(folder.results, text.getvalue())


def row(metrics: dict[str, Any]) -> dict[str, str | int]:
    """Flatten one round's metrics to a row of the table."""
    cells: dict[str, str | int] = {
        "round": metrics["round"],
        "trained_on_regions": metrics["trained_on_regions"],
        "trained_on_voxels": metrics["trained_on_voxels"],
        "dice": f"{metrics['foreground_mean']['dice']:.4f}",
        "hd95_mm": f"{metrics['foreground_mean']['hd95_mm']:.3f}",
    }
    for name, values in metrics["mean"].items():
        cells[f"dice_{name}"] = f"{values['dice']:.4f}"
        cells[f"hd95_mm_{name}"] = f"{values['hd95_mm']:.3f}"
    return cells
