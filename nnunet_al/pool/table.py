"""All regions of a campaign in one file, in one order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from nnunet_al.files import read_arrays, write_arrays
from nnunet_al.pool.boxes import Region, as_box


def save_regions(path: Path, regions: Iterable[Region]) -> None:
    """Write regions, sorted: the index of a region in this order is its number throughout a campaign."""
    ordered = sorted(regions)
    cases = sorted({region.case for region in ordered})
    number = {case: index for index, case in enumerate(cases)}
    write_arrays(
        path,
        cases=np.array(cases, dtype=np.str_),
        case_N=np.array([number[region.case] for region in ordered], np.int32),
        box_N_3_2=np.array([region.box for region in ordered], np.int32).reshape(len(ordered), 3, 2),
    )


def load_regions(path: Path) -> list[Region]:
    """Read what :func:`save_regions` wrote."""
    arrays = read_arrays(path)
    cases = [str(case) for case in arrays["cases"]]
    boxes = arrays["box_N_3_2"].tolist()
    return [Region(cases[case], as_box(box)) for case, box in zip(arrays["case_N"].tolist(), boxes, strict=True)]


def by_case(regions: Sequence[Region], numbers: Iterable[int]) -> dict[str, list[int]]:
    """Group region numbers by case; cases sorted, numbers within a case in their order."""
    groups: dict[str, list[int]] = {}
    for number in sorted(numbers):
        groups.setdefault(regions[number].case, []).append(number)
    return dict(sorted(groups.items()))
