"""All regions of a campaign in one file, in a fixed order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from nnunet_al.files import hash_json, read_arrays, write_arrays
from nnunet_al.pool.boxes import Region, as_box


def save_regions(path: Path, regions: Iterable[Region]) -> None:
    """Write regions, sorted: the index of a region in this order is its number in the whole campaign."""
    save_in_order(path, sorted(regions))


def append_regions(path: Path, regions: Iterable[Region], known: Collection[str]) -> None:
    """Write new regions, sorted, after those of the cases ``known``, which keep their numbers.

    Regions of other cases come from an interrupted call; their numbers are not in use yet, and they are removed.
    """
    earlier = load_regions(path)
    kept = [region for region in earlier if region.case in known]
    assert kept == earlier[: len(kept)], "a number in use would move"
    save_in_order(path, [*kept, *sorted(regions)])


def load_regions(path: Path) -> list[Region]:
    """Read the regions in the order of the file, which is that of their numbers."""
    arrays = read_arrays(path)
    cases = [str(case) for case in arrays["cases"]]
    boxes = arrays["box_N_3_2"].tolist()
    return [Region(cases[case], as_box(box)) for case, box in zip(arrays["case_N"].tolist(), boxes, strict=True)]


def checksum_of(regions: Iterable[Region]) -> str:
    """Return a hash of regions in their order."""
    return hash_json([[region.case, region.box] for region in regions])


def by_case(regions: Sequence[Region], numbers: Iterable[int]) -> dict[str, list[int]]:
    """Group region numbers by case; cases sorted, numbers within a case in their order."""
    groups: dict[str, list[int]] = {}
    for number in sorted(numbers):
        groups.setdefault(regions[number].case, []).append(number)
    return dict(sorted(groups.items()))


def save_in_order(path: Path, regions: Sequence[Region]) -> None:
    """Write regions in the given order."""
    cases = sorted({region.case for region in regions})
    number = {case: index for index, case in enumerate(cases)}
    write_arrays(
        path,
        cases=np.array(cases, dtype=np.str_),
        case_N=np.array([number[region.case] for region in regions], np.int32),
        box_N_3_2=np.array([region.box for region in regions], np.int32).reshape(len(regions), 3, 2),
    )
