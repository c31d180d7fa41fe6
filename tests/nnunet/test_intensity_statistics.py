"""Statistics from values and counts are those of the voxels written out one by one."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from nnunet_al.nnunet import intensity_statistics as module
from nnunet_al.nnunet.intensity_statistics import PERCENTILES, ValueCounts, intensity_statistics

EXACT = ("min", "max", "median", "percentile_00_5", "percentile_99_5")


def expected(parts_N, kind):
    """What nnU-Net computes, but the sums in double precision."""
    voxels_N = np.concatenate([np.asarray(part, np.float32) for part in parts_N]).astype(kind)
    low, median, high = np.percentile(voxels_N, np.array(PERCENTILES))
    exact = {"median": median, "percentile_99_5": high, "percentile_00_5": low}
    exact |= {"min": voxels_N.min(), "max": voxels_N.max()}
    wide_N = voxels_N.astype(np.float64)
    return {name: float(value) for name, value in exact.items()}, wide_N.mean(), wide_N.std()


def voxels(kind, rng):
    n = int(rng.integers(1, 400))
    return {
        "ct": lambda: rng.integers(-1024, 3072, n),
        "few": lambda: rng.integers(0, 4, n),
        "distinct": lambda: rng.normal(0, 1, n),
        "large": lambda: rng.normal(1e7, 3e6, n),
        "tiny": lambda: rng.normal(0, 1e-30, n),
        "zeros": lambda: rng.choice([0.0, -0.0, 1.0, -1.0], n),
        "constant": lambda: np.full(n, -3.25),
        "extreme": lambda: rng.choice([np.finfo(np.float32).max / 4, -np.finfo(np.float32).max / 4, 0], n),
    }[kind]()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("what", ["ct", "few", "distinct", "large", "tiny", "zeros", "constant", "extreme"])
def test_as_numpy_finds_them_in_the_joined_voxels(what, kind, monkeypatch):
    rng = np.random.default_rng(len(what))
    for block in (1 << 20, 7):  # in one piece, and in many
        monkeypatch.setattr(module, "_BLOCK", block)
        for _ in range(20):
            parts_N = [voxels(what, rng) for _ in range(int(rng.integers(1, 5)))]
            exact, mean, std = expected(parts_N, kind)
            found = intensity_statistics([ValueCounts.of(part) for part in parts_N], kind)
            assert {name: found[name] for name in EXACT} == exact
            scale = np.abs(np.concatenate(parts_N)).max()
            assert found["mean"] == pytest.approx(mean, rel=1e-12, abs=1e-13 * scale)
            assert found["std"] == pytest.approx(std, rel=1e-12, abs=1e-13 * scale)


def test_worked_out_by_hand():
    found = intensity_statistics([ValueCounts.of(np.array([1, 1, 1])), ValueCounts.of(np.array([5.0]))])
    assert found["mean"] == 2
    assert found["std"] == pytest.approx(np.sqrt(3))  # (1 + 1 + 1 + 9) / 4
    assert (found["min"], found["median"], found["max"]) == (1, 1, 5)
    assert found["percentile_99_5"] == pytest.approx(1 + 4 * 0.985)  # 2.985 of the 3 steps between 4 voxels
    assert intensity_statistics([]) is None
    assert intensity_statistics([ValueCounts.of(np.array([]))]) is None


def test_neither_order_nor_cut_of_the_parts_matters():
    rng = np.random.default_rng(0)
    voxels_N = np.concatenate([rng.integers(-50, 50, 500), rng.normal(0, 20, 500)])
    whole = intensity_statistics([ValueCounts.of(voxels_N)])
    for pieces in (3, 10):
        parts = [ValueCounts.of(part) for part in np.array_split(rng.permutation(voxels_N), pieces)]
        found = intensity_statistics(list(parts))
        assert found == intensity_statistics(parts[::-1])
        assert {name: found[name] for name in EXACT} == {name: whole[name] for name in EXACT}
        assert found["mean"] == pytest.approx(whole["mean"], rel=1e-12)


def test_counts_are_exact_beyond_what_float32_can_count():
    many = ValueCounts(np.array([1, 2], np.float32), np.array([60_000_000, 40_000_001], np.uint32))
    found = intensity_statistics([many])
    assert found["mean"] == (60_000_000 + 2 * 40_000_001) / 100_000_001
    assert found["median"] == 1
    assert found["percentile_99_5"] == 2


def test_counted_is_small_and_complete():
    counted = ValueCounts.of(np.array([3, 1, 3, 3], np.float32))
    assert counted.values_M.tolist() == [1, 3]
    assert counted.counts_M.tolist() == [1, 3]
    assert counted.counts_M.dtype == np.uint8
    assert counted.values_M.dtype == np.float32
    assert ValueCounts.of(np.zeros(300)).counts_M.dtype == np.uint16


@pytest.mark.parametrize("distinct", [True, False])
def test_memory_follows_distinct_values(distinct, monkeypatch):
    """nnU-Net holds the samples, their concatenation, an array of the channels and a copy at once: 16 bytes a voxel."""
    rng = np.random.default_rng(0)
    n, block = 200_000, 1 << 16
    monkeypatch.setattr(module, "_BLOCK", block)
    make = (lambda: rng.normal(0, 1, n)) if distinct else (lambda: rng.integers(-1024, 3072, n))
    parts = [ValueCounts.of(make()) for _ in range(8)]
    n_values = sum(len(part.values_M) for part in parts)
    tracemalloc.start()
    try:
        intensity_statistics(parts)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not parts
    assert peak < 8 * n_values + 64 * min(n_values, block)
    assert peak < (16 if distinct else 2) * 8 * n
