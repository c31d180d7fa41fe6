"""The report of the comparison: tables and figures from the cells alone, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evidence_cells import Row, read_cells
from evidence_figures import draw_all
from evidence_measures import Curves, complete_campaigns
from evidence_settings import BASELINE, CHOSEN_ON, PART_TWO, STRATEGIES, spelled
from evidence_tables import (
    area_versus,
    complete_table,
    cost_table,
    curve_table,
    datasets_of,
    length_table,
    measure_table,
    penalty_table,
    pilot_table,
    verdict,
    versus_table,
    whole_pool_table,
)

from nnunet_al.files import write_text
from nnunet_al.terminal import say

OPPONENTS = (BASELINE, "random", "evenly_spaced")
MAIN = (*STRATEGIES, *CHOSEN_ON)
BETTER_THAN = {
    **{f"{metric}+selective": metric for metric in ("margin", "least_confidence", "bald")},
    **{"selective": "entropy", "stochastic_batches": "entropy", "bald+stochastic_batches": "bald"},
    **{variant: spelled(variant)[0] for variant in PART_TWO if "," in variant},
}
"""Strategy -> the one that it claims to improve, or is a variant of."""


def write_report(folder: Path) -> list[Path]:
    """Write all tables and figures of the cells in a folder beside them, and return the files."""
    rows = read_cells(folder / "cells.csv")
    if not rows:
        raise SystemExit(f"There are no cells in {folder}: run the campaigns before.")
    files = [folder / "evidence.md", folder / "part_two.md"]
    write_text(files[0], main_report(rows))
    write_text(files[1], second_report(rows))
    drawn = draw_all(main_part(rows), rows, MAIN, BASELINE, CHOSEN_ON, folder)
    say(f"Tables and figures are in {folder}")
    return [*files, *drawn]


def main_part(rows: Sequence[Row]) -> list[Curves]:
    """Return the complete campaigns of the main part: those of strategies that are not of the second one alone."""
    return [one for one in complete_campaigns(rows) if one.strategy not in PART_TWO or one.strategy in MAIN]


def main_report(rows: Sequence[Row]) -> str:
    """Return the report of the main part."""
    campaigns = main_part(rows)
    parts = [
        ("What is complete", complete_table(campaigns, rows, MAIN)),
        ("The whole pool", whole_pool_table(rows)),
        ("Is a training long enough?", length_table(rows)),
        ("Choice of the budget: random draws", pilot_table(rows)),
        *_of_sets(campaigns, rows),
    ]
    for other in OPPONENTS:
        found = area_versus(campaigns, MAIN, other, CHOSEN_ON)
        if found:
            parts.append((f"Area against `{other}`", f"{verdict(found, other)}\n\n{versus_table(found)}"))
    costs, matrix = cost_table(campaigns, MAIN, BASELINE, CHOSEN_ON), penalty_table(campaigns)
    head = f"Area against each cost, compared with `{BASELINE}`"
    parts.append((head, f"{_OF_COSTS}\n\n{costs}" if costs else ""))
    parts.append(("Penalty matrix", f"{_OF_MATRIX}\n\n{matrix}" if matrix else ""))
    return _page("Strategies compared", _ABOUT, parts)


def second_report(rows: Sequence[Row]) -> str:
    """Return the report of the second part: variants on one set."""
    everything = [one for one in complete_campaigns(rows) if one.dataset == "hippocampus"]
    seeds = {one.seed for one in everything if one.strategy in PART_TWO}
    campaigns = [one for one in everything if one.seed in seeds]
    order = (*MAIN, *PART_TWO)
    parts = [("What is complete", complete_table(campaigns, rows, order)) if campaigns else ("", "")]
    parts += _of_sets(campaigns, rows, order)
    lines = []
    for strategy, other in BETTER_THAN.items():
        found = [one for one in area_versus(campaigns, (strategy,), other, {}) if one.strategy == strategy]
        if found:
            lines.append((f"`{strategy}` against `{other}`", versus_table(found)))
    parts += lines
    return _page("Variants on the Hippocampus", "Two seeds: no test can show a difference.", parts)


def _of_sets(campaigns: Sequence[Curves], rows: Sequence[Row], order: Sequence[str] = MAIN) -> list[tuple[str, str]]:
    parts = []
    for dataset in datasets_of([row for one in campaigns for row in one.rows]):
        parts.append((f"{dataset}: Dice over regions", curve_table(campaigns, dataset, order, "dice", 3)))
        parts.append((f"{dataset}: HD95 (mm) over regions", curve_table(campaigns, dataset, order, "hd95_mm", 2)))
        parts.append((f"{dataset}: measures", measure_table(campaigns, rows, dataset, order)))
    return parts


def _page(title: str, about: str, parts: Sequence[tuple[str, str]]) -> str:
    sections = "\n\n".join(f"## {head}\n\n{body}" for head, body in parts if body)
    return f"# {title}\n\n{about}\n\n{sections}\n"


_ABOUT = """\
Made by `python benchmarks/evidence.py --report` from `cells.csv`; only complete campaigns are compared. Dice and HD95
are means over test cases and foreground classes. The area is the mean Dice over the numbers of regions, from the first
model on; "without first" from the second one on. Intervals are those of a mean over seeds, 95 %, by Student's t.
"Regions to" 90 % of the Dice of the whole pool: by the mean curve, and in brackets how many seeds reach it. Foreground
efficiency is how fast the gap to that Dice closes for each part of the pool's foreground that is annotated. Δ and ESSP
are those of the last model. Tests are paired by set and seed: a permutation test of the areas, two-sided, after Holm
over all strategies."""
_OF_COSTS = (
    "Difference in area, with p after Holm; between the costs that all strategies of a set and seed have reached."
)
_OF_MATRIX = (
    "Percentage of the cells (set, model from the second on) in which a row beats a column: paired t-test, p < 0.05."
)
