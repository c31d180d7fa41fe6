"""Means over rounds, and permutation tests: a cell is a run (fold and seed) in one round behind the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from nnunet_al.evaluation.permutation import EXACT_UP_TO, paired_permutation_test
from nnunet_al.report.reading.lines import Comparison, Line, by_axis
from nnunet_al.report.reading.round_values import DICE, HD95, SLICE_DICE, Measure
from nnunet_al.report.tables.ranking import Row
from nnunet_al.report.tables.table import Table
from nnunet_al.seeding import generator

MEASURES = (DICE, SLICE_DICE, HD95)

_Cell = tuple[int, int, int, int | None, tuple[str, ...]]
"""Fold, seed, round, number of annotated regions, and test cases."""

ABOUT_SLICES = (
    "Slice dice, of 2d networks: the mean over the classes of the mean Dice of all test slices that hold the class in "
    "label or prediction."
)
_WITHOUT_FIRST = (
    "The first model of each run is left out, since it is trained on the initial batch, which all strategies of a "
    "seed share."
)


def over_rounds(compared: Sequence[Comparison]) -> Table:
    """Return the mean and standard deviation of each strategy over the cells that all strategies have."""
    rows = []
    sliced = any(_cells(line, SLICE_DICE) for comparison in compared for line in comparison.lines)
    measures = MEASURES if sliced else (DICE, HD95)
    for part in _parts(compared):
        found = {line.label: {m.name: _cells(line, m) for m in measures} for line in part.lines}
        known = {label: of for label, of in found.items() if of[DICE.name]}
        in_all = set.intersection(*(set(of[DICE.name]) for of in known.values())) if known else set()
        shared = sorted(in_all, key=repr)  # sorted, so that the last digit is fixed
        means = []
        for label, of in known.items() if shared else ():
            row: Row = {"dataset": part.title, "strategy": label}
            for measure in measures:
                values = [of[measure.name][cell] for cell in shared if cell in of[measure.name]]
                row[measure.name] = float(np.mean(values)) if values else None
                row[f"{measure.name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
            means.append(row | {"cells": len(shared), "runs": len({cell[:2] for cell in shared})})
        rows += sorted(means, key=lambda row: -row[DICE.name])
    return Table(
        "over_rounds",
        "Mean and standard deviation (SD) of the mean foreground Dice and HD95 (mm) over cells: runs (folds and seeds) "
        f"x rounds, those that all strategies of the dataset have. {_WITHOUT_FIRST} The SD holds the growth from round "
        "to round, so it says nothing on how sure a difference is." + (f" {ABOUT_SLICES}" if sliced else ""),
        rows,
        titles={
            "dice_sd": "SD",
            "slice_dice_sd": "SD of slice dice",
            "hd95_mm": "HD95 [mm]",
            "hd95_mm_sd": "SD of HD95",
        },
        digits={"hd95_mm": 2, "hd95_mm_sd": 2},
    )


def permutation_tests(compared: Sequence[Comparison]) -> Table:
    """Return the paired permutation test of each pair of strategies and each measure, the better one first."""
    rows = [
        {"dataset": part.title, "measure": measure.name, **row}
        for part in _parts(compared)
        for measure in MEASURES
        for row in _pairs(part, measure)
    ]
    return Table(
        "permutation",
        "Two-sided paired permutation tests of the mean difference between two strategies; a pair of models shares "
        f"fold, seed, round, number of annotated regions and test cases (a cell). {_WITHOUT_FIRST} p over cells "
        "exchanges each cell on its own, as Gaillochet et al. (2023) test; the rounds of a run build on each other, so "
        "that it is too small. p over runs exchanges whole runs; with n runs it is at least 2 / 2^n, so that it "
        f"can be below 0.05 from six runs on. Exact up to {EXACT_UP_TO} cells or runs, else from 99 999 seeded draws; "
        "not corrected for the number of tests.",
        rows,
        digits={"p_over_cells": 5, "p_over_runs": 5},
    )


def _pairs(part: Comparison, measure: Measure) -> Iterator[Row]:
    cells = {line.label: _cells(line, measure) for line in part.lines}
    for pair in combinations(cells, 2):
        shared = sorted(cells[pair[0]].keys() & cells[pair[1]].keys(), key=repr)
        if len(shared) < 2:
            continue
        difference_N = np.array([cells[pair[0]][cell] - cells[pair[1]][cell] for cell in shared])
        better, other = pair if measure.sign * difference_N.mean() >= 0 else pair[::-1]
        runs = [cell[:2] for cell in shared]
        rng = generator(0, 0, "permutation test")
        yield {
            "strategy": better,
            "other": other,
            "difference": float(difference_N.mean()) * (1 if better == pair[0] else -1),
            "cells": len(shared),
            "p_over_cells": paired_permutation_test(difference_N, rng),
            "runs": len(set(runs)),
            "p_over_runs": paired_permutation_test(difference_N, rng, runs),
        }


def _cells(line: Line, measure: Measure) -> Mapping[_Cell, float]:
    found = {}
    for run in line.runs:
        for result in run.rounds:
            if result.number > 1 and (value := measure.value(result)) is not None:
                place = (run.decided.fold, run.decided.seed, result.number, result.regions)
                found[(*place, tuple(sorted(result.tested_on)))] = value
    return found


def _parts(compared: Sequence[Comparison]) -> Iterator[Comparison]:
    for comparison in compared:
        yield from by_axis(comparison, "regions")
