"""All tables that compare campaigns, and those that list their rounds, costs and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_al.evaluation.penalty import PenaltyMatrix, penalty_matrix
from nnunet_al.report.reading.lines import Comparison
from nnunet_al.report.reading.reference import Reference
from nnunet_al.report.reading.round_values import DICE, HD95, MEASURES, Measure
from nnunet_al.report.reading.runs import Run
from nnunet_al.report.tables import comparison as comparison_tables
from nnunet_al.report.tables.comparison import NO_REFERENCE
from nnunet_al.report.tables.over_rounds import over_rounds, permutation_tests
from nnunet_al.report.tables.ranking import standings
from nnunet_al.report.tables.settings import settings
from nnunet_al.report.tables.table import Table
from nnunet_al.report.tables.times import stages, times

COST = ("regions", "cases", "voxels", "foreground_voxels", "contour_mm", "minutes")


def campaign_tables(
    runs: Sequence[Run],
    compared: Sequence[Comparison],
    matrices: Mapping[str, PenaltyMatrix],
    reference: Reference = NO_REFERENCE,
) -> list[Table]:
    """Return all tables, in the order of the report; a table may have no rows.

    ``matrices`` are those of `penalties_of`; the ``reference`` is the Dice to which budgets refer, where it is known.
    """
    return [
        standings(compared),
        comparison_tables.curves(compared),
        comparison_tables.budgets(compared, reference),
        comparison_tables.highest(compared),
        comparison_tables.areas(compared),
        penalties(matrices[DICE.name]),
        over_rounds(compared),
        permutation_tests(compared),
        standings(compared, HD95),
        comparison_tables.curves(compared, HD95),
        penalties(matrices[HD95.name], HD95),
        comparison_tables.classes(compared),
        comparison_tables.groups(compared),
        rounds(runs),
        costs(runs),
        times(compared),
        stages(compared),
        settings([run for run in runs if not run.decided.full] or runs),
    ]


def penalties(matrix: PenaltyMatrix, measure: Measure = DICE) -> Table:
    """Return the pairwise penalty matrix, one row per pair."""
    share_S_S, mean_S = matrix.share_S_S, matrix.column_means_S
    rows = [
        {
            "strategy": name,
            "beats": other,
            "share": float(share_S_S[i, j]) if matrix.cells_S_S[i, j] else None,
            "wins": int(matrix.wins_S_S[i, j]),
            "cells": int(matrix.cells_S_S[i, j]),
            "cells_with_too_few_runs": int(matrix.too_few_S_S[i, j]),
            "cells_without_variance": int(matrix.without_variance_S_S[i, j]),
            "column_mean_of_the_beaten": None if np.isnan(mean_S[j]) else float(mean_S[j]),
        }
        for i, name in enumerate(matrix.names)
        for j, other in enumerate(matrix.names)
        if i != j and (matrix.cells_S_S[i, j] or matrix.too_few_S_S[i, j])
    ]
    return Table(
        f"penalty{measure.suffix}",
        f"Pairwise penalty matrix, by {measure.words}: the share of cells (dataset and round) in which a strategy "
        "beats another by a two-sided paired t-test over folds and seeds at 0.05, not corrected for the number of "
        "tests; models are paired only where they were trained on the same number of regions and tested on the same "
        "cases. A cell with fewer than two common runs is left out; a cell whose differences are all equal and not 0 "
        "counts as beaten. The column mean (lower is better) counts the diagonal as 0.",
        rows,
    )


def penalties_of(compared: Sequence[Comparison]) -> dict[str, PenaltyMatrix]:
    """Return the penalty matrices of all comparisons: name of the measure -> matrix."""
    return {measure.name: _penalties_by(compared, measure) for measure in (DICE, HD95)}


def _penalties_by(compared: Sequence[Comparison], measure: Measure) -> PenaltyMatrix:
    """Return the penalty matrix by one measure.

    A cell is a dataset (with its test cases and unit of annotation) and a round. Models are paired by fold, seed,
    number of regions in the training set, so that strategies are compared at one budget, and test cases, which change
    where one of them is withdrawn.
    """
    cells: dict[tuple[Any, ...], dict[str, dict[tuple[Any, ...], float]]] = {}
    for comparison in compared:
        for line in comparison.lines:
            for run in line.runs:
                for result in run.evaluated:
                    cell = cells.setdefault((comparison.dataset, comparison.test, line.unit, result.number), {})
                    pair = (run.decided.fold, run.decided.seed, result.regions, tuple(sorted(result.tested_on)))
                    if (value := measure.value(result)) is not None:
                        cell.setdefault(line.label, {})[pair] = measure.sign * value
    return penalty_matrix(cells)


def rounds(runs: Sequence[Run]) -> Table:
    """Return one row per campaign and round: its batch, its training set and its metrics."""
    shares = any(result.pool_percent is not None for run in runs for result in run.rounds)
    sliced = any(result.slice_dice is not None for run in runs for result in run.rounds)
    fair = any(result.fairness for run in runs for result in run.rounds)
    rows = []
    for run in runs:
        for result in run.rounds:
            row = identity(run) | {"round": result.number, "complete": result.complete}
            row |= {"asked_regions": result.asked_regions, "asked_cases": result.asked_cases}
            row |= {f"trained_on_{name}": getattr(result, name) for name in COST}
            row |= {"pool_percent": result.pool_percent} if shares else {}
            row |= {"dice": result.dice, "hd95_mm": result.hd95_mm}
            row |= {"slice_dice": result.slice_dice} if sliced else {}
            if fair:
                row |= {name: getattr(result.fairness, name, None) for name in MEASURES}
            rows.append(row | {"seconds": sum(result.seconds.values()) if result.seconds else None})
    return Table(
        "rounds",
        "One row per campaign and round: size of the batch that it asked for, size of its model's training set (also "
        "in % of the pool's regions, where known), the model's mean foreground Dice and HD95 (mm) on the test cases, "
        "and the seconds of its stages, without training where the model was taken over from another campaign. Round 0 "
        "has no model. A dash: not known.",
        rows,
        digits={"pool_percent": 1, "trained_on_contour_mm": 0, "trained_on_minutes": 0, "hd95_mm": 2, "seconds": 1},
    )


def costs(runs: Sequence[Run]) -> Table:
    """Return the cost so far of annotating the batch of each round."""
    rows = [
        identity(run) | {"round": result.number} | {name: getattr(result.cost, name) for name in COST}
        for run in runs
        for result in run.rounds
        if result.cost is not None
    ]
    return Table(
        "cost",
        "Cost of annotating each round's batch: regions, the cases that they lie in, annotated voxels, annotated "
        "foreground voxels, the length of the annotated contours in mm (a better proxy of time than voxels), "
        "and readers' minutes where they gave them. Round 0 includes annotations that came with the dataset.",
        rows,
        digits={"contour_mm": 0, "minutes": 0},
    )


def identity(run: Run) -> dict[str, Any]:
    """Return the columns that name a campaign."""
    decided = run.decided
    names = {"dataset": decided.dataset, "configuration": decided.configuration, "strategy": run.strategy}
    return names | {"unit": decided.unit, "fold": decided.fold, "seed": decided.seed, "tag": decided.tag}
