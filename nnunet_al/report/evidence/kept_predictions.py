"""Predictions of test cases that rounds have kept (``-keep_predictions``), beside the label and the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from statistics import fmean

import numpy as np

from nnunet_al.campaign.decisions import Options
from nnunet_al.evaluation.dice import class_names
from nnunet_al.evaluation.slices import dice_of_slices
from nnunet_al.nnunet.environment import Roots
from nnunet_al.report.drawing.selection_picture import Panel
from nnunet_al.report.reading.lines import Comparison
from nnunet_al.report.reading.runs import Run
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.reopen import open_round

MOST_ROUNDS = 5
"""Rounds that a picture shows, evenly spread from the first to the last."""

LABEL, ALL_DATA = "label", "all data"
_MARGIN, _LEAST_MARGIN = 0.3, 8  # of the structures' longer side, and in voxels

Row = tuple[Panel | None, ...]


@dataclass(frozen=True)
class CasePanels:
    """One slice of a test case: a row of panels per strategy, and a name for each column; None: nothing was kept."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, Row]


def kept_case_panels(comparison: Comparison, full: Sequence[Run], roots: Roots, options: Options) -> list[CasePanels]:
    """Return panels of all test cases of which the first run (lowest fold, then seed) of a strategy keeps predictions.

    Strategies are shown whose first runs have the same test cases. ``full`` are runs on the whole pool; the first one
    on these cases that keeps predictions has the last column.

    Raises NnunetALError if the dataset is not as the campaigns know it.
    """
    first = {
        line.label: min(line.runs, key=lambda run: (run.decided.fold, run.decided.seed)) for line in comparison.lines
    }
    kept = {label: own for label, run in first.items() if (own := _kept(run))}
    if not kept:
        return []
    some = first[next(iter(kept))]
    tests = some.decided.test_cases
    whole = next((of for run in full if run.decided.test_cases == tests and (of := _kept(run))), {})
    shown = {label: of for label, of in kept.items() if first[label].decided.test_cases == tests}
    numbers = _spread(sorted({number for of in shown.values() for number in of}))
    context = open_round(some.folder, roots, some.rounds[-1].number, options)
    columns = (LABEL, *(f"round {number}" for number in numbers), *([ALL_DATA] if whole else []))
    found = []
    for case in tests:
        last = [whole[max(whole)].get(case)] if whole else []
        files = {label: [of.get(number, {}).get(case) for number in numbers] + last for label, of in shown.items()}
        if any(path is not None for of in files.values() for path in of):
            index, rows = _rows(context, case, files)
            found.append(CasePanels(f"{comparison.title}, {case}, slice {index}", columns, rows))
    return found


def _kept(run: Run) -> dict[int, dict[str, Path]]:
    """Return round -> test case -> file."""
    found = {}
    for result in run.rounds:
        folder, of = run.folder.round(result.number).predictions, {}
        for case in run.decided.test_cases:
            if files := sorted(folder.glob(f"{escape(case)}.*"), key=lambda path: len(path.name)):
                of[case] = files[0]
        if of:
            found[result.number] = of
    return found


def _spread(numbers: Sequence[int]) -> list[int]:
    places = np.linspace(0, len(numbers) - 1, min(MOST_ROUNDS, len(numbers))).round().astype(int)
    return [numbers[place] for place in places]


def _rows(context: RoundContext, case: str, files: Mapping[str, Sequence[Path | None]]) -> tuple[int, dict[str, Row]]:
    """Return the raw slice with the most annotated voxels across the network's first axis, and the panels on it."""
    test, dataset = context.data.tests[case], context.data.dataset
    assert test.label is not None, "it has been evaluated"
    label_xyz = context.label_format.read(test.label)
    across = context.first_plans["transpose_forward"][0]
    is_structure_xyz = (label_xyz > 0) & (label_xyz != dataset.ignore_label)
    within = tuple(axis for axis in range(3) if axis != across)
    index = int(np.count_nonzero(is_structure_xyz, axis=within).argmax())
    cut = _surroundings(np.take(is_structure_xyz, index, across))
    image_yx = np.take(context.label_format.read_image(test.images)[0], index, across)[cut]
    label_yx = np.take(label_xyz, index, across)[cut]
    spacing_mm = context.data.test_facts[case].spacing_mm
    shown_yx = np.where(label_yx == dataset.ignore_label, 0, label_yx)

    def panel(path: Path | None) -> Panel | None:
        if path is None:
            return None
        prediction_yx = np.take(context.label_format.read(path), index, across)
        whole_yx = np.take(label_xyz, index, across)
        maps = prediction_yx[None], whole_yx[None]
        of_class = dice_of_slices(*maps, 0, dataset.classes, dataset.ignore_label).values()
        known = [found["slice_dice"] for found in of_class if found["slice_dice"] is not None]
        return make(f"Dice {fmean(known):.2f}" if known else "", prediction_yx[cut])

    def make(title: str, prediction_yx: np.ndarray | None) -> Panel:
        return Panel(
            title=title,
            image_yx=image_yx,
            prediction_yx=prediction_yx,
            reference_yx=shown_yx,
            box=((0, 0), (0, 0)),
            spacing_yx=(spacing_mm[within[0]], spacing_mm[within[1]]),
            classes=class_names(dataset.classes),
        )

    return index, {label: (make("", None), *map(panel, paths)) for label, paths in files.items()}


def _surroundings(structures_yx: np.ndarray) -> tuple[slice, slice]:
    """Return the part of a slice that holds all structures with a margin; the whole of it where there are none."""
    places = np.argwhere(structures_yx)
    if not len(places):
        return slice(None), slice(None)
    low, high = places.min(0), places.max(0) + 1
    margin = max(int(_MARGIN * (high - low).max()), _LEAST_MARGIN)
    (top, left), (bottom, right) = np.maximum(low - margin, 0).tolist(), (high + margin).tolist()
    return slice(top, bottom), slice(left, right)
