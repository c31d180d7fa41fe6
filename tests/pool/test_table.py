"""The file with all regions of a campaign."""

import numpy as np

from nnunet_al.pool.boxes import Region
from nnunet_al.pool.table import append_regions, by_case, load_regions, save_regions

REGIONS = [
    Region(case, ((z, z + 1), (y, y + 3), (0, 4))) for case in ("b", "a_1", "c d") for z in (2, 0) for y in (0, 10)
]


def test_regions_come_back_sorted_whatever_their_order(tmp_path):
    for seed in range(3):
        shuffled = [REGIONS[index] for index in np.random.default_rng(seed).permutation(len(REGIONS))]
        save_regions(tmp_path / "regions.npz", shuffled)
        assert load_regions(tmp_path / "regions.npz") == sorted(REGIONS)


def test_an_empty_pool_can_be_written(tmp_path):
    save_regions(tmp_path / "regions.npz", [])
    assert load_regions(tmp_path / "regions.npz") == []


def test_appended_regions_move_no_number(tmp_path):
    path = tmp_path / "regions.npz"
    first, second, third = ([region for region in REGIONS if region.case == case] for case in ("b", "a_1", "c d"))
    save_regions(path, first)
    append_regions(path, reversed(second), {"b"})
    assert load_regions(path) == [*sorted(first), *sorted(second)]
    append_regions(path, third, {"b", "a_1"})
    assert load_regions(path) == [*sorted(first), *sorted(second), *sorted(third)]


def test_what_an_interrupted_call_has_appended_goes(tmp_path):
    path = tmp_path / "regions.npz"
    first, second, third = ([region for region in REGIONS if region.case == case] for case in ("b", "a_1", "c d"))
    save_regions(path, first)
    append_regions(path, second, {"b"})
    append_regions(path, third, {"b"})
    assert load_regions(path) == [*sorted(first), *sorted(third)]


def test_numbers_are_grouped_by_case_in_order():
    regions = sorted(REGIONS)
    groups = by_case(regions, [11, 0, 5, 4])
    assert groups == {"a_1": [0], "b": [4, 5], "c d": [11]}
    assert list(groups) == ["a_1", "b", "c d"]
