from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from nnunet_al.selection import distances, lower_bound, nearest, sketch
from nnunet_al.selection.distances import squared_to
from nnunet_al.selection.lower_bound import Centres, product_type
from nnunet_al.selection.nearest import nearest_squared
from nnunet_al.selection.sketch import sketch_of

from . import plain
from .embeddings import KINDS, embeddings

every_kind = pytest.mark.parametrize("kind", KINDS)


def all_squared(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.stack([plain.nearest_squared(rows, centre[None]) for centre in centres], axis=1)


@pytest.fixture
def small_tiles(monkeypatch):
    """So that small pools have many."""
    monkeypatch.setattr(nearest, "_ROW_ELEMENTS", 1 << 11)
    monkeypatch.setattr(nearest, "_BOUND_ELEMENTS", 1 << 9)
    monkeypatch.setattr(lower_bound, "_BLOCK", 17)


@pytest.fixture
def flushed():
    """Subnormal numbers are taken for 0, as some programs ask of the processor."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not")
    yield
    torch.set_flush_denormal(False)


@every_kind
@pytest.mark.parametrize("count, dimensions", [(3, 40), (60, 40), (40, 9), (600, 8)])
def test_it_is_the_plain_way_to_the_last_bit(kind, count, dimensions):
    rows, centres = embeddings(kind, 90, dimensions), embeddings(kind, count, dimensions, seed=1)
    centres = np.concatenate([centres, rows[:2]])
    np.testing.assert_array_equal(nearest_squared(rows, centres), plain.nearest_squared(rows, centres))


@every_kind
@pytest.mark.usefixtures("small_tiles")
def test_tiles_change_no_bit(kind, monkeypatch):
    rows, centres = embeddings(kind, 90, 40), embeddings(kind, 50, 40, seed=1)
    expected = plain.nearest_squared(rows, centres)
    np.testing.assert_array_equal(nearest_squared(rows, centres), expected)
    monkeypatch.setattr(distances, "_TILE_ELEMENTS", 1)
    monkeypatch.setattr(nearest, "_CENTRE_ELEMENTS", 7 * 40)
    np.testing.assert_array_equal(nearest_squared(rows[::-1], centres), expected[::-1])
    np.testing.assert_array_equal(nearest_squared(np.asfortranarray(rows), np.asfortranarray(centres)), expected)


@pytest.mark.parametrize(
    "pair", [("all scales", "1e36"), ("normal", "1e-20"), ("1e-20", "very far"), ("far", "float64")]
)
def test_centres_may_lie_elsewhere(pair):
    rows, centres = embeddings(pair[0], 80, 33), embeddings(pair[1], 20, 33, seed=1)
    np.testing.assert_array_equal(nearest_squared(rows, centres), plain.nearest_squared(rows, centres))


@every_kind
@pytest.mark.parametrize("anchor", ["nowhere", "amid", "a row", "another world"])
@pytest.mark.parametrize("block", [2048, 17])
def test_the_bound_is_below_every_distance(kind, anchor, block, monkeypatch):
    monkeypatch.setattr(lower_bound, "_BLOCK", block)
    rows, centres = embeddings(kind, 60, 50), embeddings(kind, 30, 50, seed=1)
    centres = np.concatenate([centres, rows[:9]])
    anchors = {
        "nowhere": np.zeros(50),
        "amid": centres.mean(axis=0, dtype=np.float64),
        "a row": rows[0],
        "another world": np.full(50, 1e3),
    }
    anchor_d = np.asarray(anchors[anchor], dtype=np.float64)
    lower = Centres.of(centres, anchor_d, product_type(rows)).lower(rows, squared_to(rows, anchor_d))
    assert not (lower > all_squared(rows, centres)).any()


@pytest.mark.usefixtures("flushed")
@pytest.mark.parametrize("kind", ["some zero", "1e-20", "1e-40", "all scales", "float64 1e-160", "float64 all scales"])
def test_the_bound_holds_where_subnormal_numbers_are_lost(kind):
    rows, centres = embeddings(kind, 60, 50), embeddings(kind, 30, 50, seed=1)
    anchor_d = np.zeros(50)
    lower = Centres.of(centres, anchor_d, product_type(rows)).lower(rows, squared_to(rows, anchor_d))
    torch.set_flush_denormal(False)
    assert not (lower > all_squared(rows, centres)).any()


@pytest.mark.parametrize("kind", ["positive", "far", "very far", "nearly duplicates", "float64 very far"])
def test_these_embeddings_break_a_bound_without_errors(kind, monkeypatch):
    monkeypatch.setattr(lower_bound, "product_error", lambda *_: 0.0)
    monkeypatch.setattr(lower_bound, "float64_error", lambda *_: 0.0)
    rows = embeddings(kind, 60, 50)
    lower = Centres.of(rows, np.zeros(50), product_type(rows)).lower(rows, squared_to(rows, np.zeros(50)))
    assert (lower > all_squared(rows, rows)).any()


@pytest.mark.parametrize("dimensions", [1, 50, 5000])
def test_the_product_error_holds_for_the_worst_order_of_a_sum(dimensions):
    rng = np.random.default_rng(0)
    x, w = (rng.random(dimensions).astype(np.float32) for _ in range(2))
    total = np.float32(0)
    for term in (x[: lower_bound._BLOCK] * w[: lower_bound._BLOCK]).tolist():
        total += np.float32(term)
    exact = x[: lower_bound._BLOCK].astype(np.float64) @ w[: lower_bound._BLOCK]
    bound = lower_bound.product_error(dimensions, np.dtype(np.float32)) * np.linalg.norm(x) * np.linalg.norm(w)
    assert abs(total - exact) <= bound
    assert abs(float(lower_bound.products(x[None], w[None])[0, 0]) - x.astype(np.float64) @ w) <= bound


@pytest.mark.parametrize(
    "kind, least", [("normal", 0.999), ("1e-20", 0.999), ("1e36", 0.999), ("far", 0.99), ("float64", 0.999999)]
)
def test_the_bound_is_near_the_distance(kind, least):
    rows, centres = embeddings(kind, 60, 50), embeddings(kind, 30, 50, seed=1)
    anchor_d = nearest.central_anchor(centres)
    lower = Centres.of(centres, anchor_d, product_type(rows)).lower(rows, squared_to(rows, anchor_d))
    assert (lower >= least * all_squared(rows, centres)).all()


@pytest.mark.parametrize("kind, most", [("normal", 1.1), ("far", 1.2), ("duplicates", 2), ("low rank", 2)])
def test_few_distances_are_summed(kind, most, monkeypatch):
    summed = []

    def counted(rows, row_P, *others):
        summed.append(len(row_P))
        return distances.squared_pairs(rows, row_P, *others)

    monkeypatch.setattr(nearest, "squared_pairs", counted)
    rows = embeddings(kind, 900, 64)
    nearest_squared(rows[:700], rows[700:])
    assert sum(summed) <= most * 700  # 200 of each row in the plain way


def test_no_matrix_of_all_pairs_and_no_copy(monkeypatch):
    for name in ("_ROW_ELEMENTS", "_BOUND_ELEMENTS", "_CENTRE_ELEMENTS"):
        monkeypatch.setattr(nearest, name, 1 << 14)
    rows, centres = embeddings("normal", 20_000, 64), embeddings("normal", 1000, 64, seed=1)
    tracemalloc.start()
    nearest_squared(rows, centres)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3e6  # the pool has 5 MB, in float64 10, and all pairs would have 160


@every_kind
@pytest.mark.parametrize("anchor", ["nowhere", "a row"])
def test_the_sketchs_bound_is_below_every_distance(kind, anchor, monkeypatch):
    monkeypatch.setattr(sketch, "_FEWEST_DIMENSIONS", 60)
    monkeypatch.setattr(sketch, "_SAMPLE", 40)
    rows = embeddings(kind, 200, 60)
    anchor_d = np.zeros(60) if anchor == "nowhere" else rows[3].astype(np.float64)
    sketched = sketch_of(rows, anchor_d)
    if kind == "zero":
        assert sketched is None
        return
    np.testing.assert_array_equal(sketched.away_N, plain.nearest_squared(rows, anchor_d[None]))
    for centre in range(0, 200, 5):
        assert not (sketched.lower(centre) > plain.nearest_squared(rows, rows[centre : centre + 1])).any()


def test_the_sketchs_bound_is_near_the_distance_where_few_directions_matter(monkeypatch):
    monkeypatch.setattr(sketch, "_FEWEST_DIMENSIONS", 60)
    rows = embeddings("low rank", 1100, 60)
    sketched = sketch_of(rows, np.zeros(60))
    expected = plain.nearest_squared(rows, rows[7:8])
    assert (sketched.lower(7) >= 0.9 * expected - 1e-3 * (sketched.away_N + sketched.away_N[7])).all()


def test_there_is_no_sketch_of_short_rows_or_small_pools():
    assert sketch_of(embeddings("normal", 2000, 100), np.zeros(100)) is None
    assert sketch_of(embeddings("normal", 100, 2000), np.zeros(2000)) is None


@pytest.mark.parametrize("bad, where", [(np.nan, "rows"), (np.inf, "rows"), (np.nan, "centres")])
def test_everything_must_be_finite(bad, where):
    arrays = {"rows": embeddings("normal", 50, 20), "centres": embeddings("normal", 9, 20, seed=1)}
    arrays[where][3, 4] = bad
    if where == "centres" and np.isinf(bad):  # infinitely far away, so it changes nothing
        others = np.delete(arrays["centres"], 3, axis=0)
        np.testing.assert_array_equal(
            nearest_squared(arrays["rows"], arrays["centres"]), plain.nearest_squared(arrays["rows"], others)
        )
        return
    with pytest.raises(AssertionError, match="not finite"):
        nearest_squared(arrays["rows"], arrays["centres"])


def test_a_centre_infinitely_far_away_changes_nothing():
    rows, centres = embeddings("normal", 50, 20), embeddings("normal", 9, 20, seed=1)
    with_another = np.concatenate([centres[:3], np.full((1, 20), np.inf, dtype=np.float32), centres[3:]])
    np.testing.assert_array_equal(nearest_squared(rows, with_another), nearest_squared(rows, centres))
