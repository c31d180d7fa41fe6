from __future__ import annotations

from functools import partial
from importlib import import_module

import numpy as np
import pytest
from scipy.stats import chi2_contingency
from sklearn.cluster import kmeans_plusplus as sklearn_kmeans_plusplus

from nnunet_al.selection import sketch
from nnunet_al.selection.kmeans_plusplus import kmeans_plusplus
from nnunet_al.selection.nearest import update_nearest

from . import plain
from .embeddings import KINDS, embeddings
from .pools import counts_of_first, names, p_value

module = import_module("nnunet_al.selection.kmeans_plusplus")  # its name on the package is the function

POINTS = np.array([[0.0, 0.0], [1.0, 0.5], [3.0, 0.0], [0.0, 2.0]])


def second_given_first(first: str, draws: int, points=POINTS) -> np.ndarray:
    """How often each pair (first, second centre) was drawn, (N, N)."""
    rng, counts = np.random.default_rng(0), np.zeros((len(points), len(points)))
    for _ in range(draws):
        one, two = kmeans_plusplus(points, names(len(points)), 2, rng, first=first).indices_B
        counts[one, two] += 1
    return counts


def test_the_first_centre_has_the_largest_norm_and_gains_are_distances():
    points = np.array([[3.0, 4.0], [0.0, 0.0], [-3.0, -4.0]])
    selection = kmeans_plusplus(points, ["b", "c", "a"], 3, np.random.default_rng(0))
    assert selection.indices_B[0] == 2  # both norms are 5: the earlier name
    expected = {(2, 0, 1): [5, 10, 5], (2, 1, 0): [5, 5, 5]}[tuple(int(i) for i in selection.indices_B)]
    np.testing.assert_array_equal(selection.gains_B, expected)


def test_the_second_centre_is_drawn_in_proportion_to_the_squared_distance():
    # from (3, 0), the largest norm: 9, 4.25, 0 and 13
    counts = second_given_first("largest_norm", 3000)[2]
    squared = np.array([9, 4.25, 0, 13])
    assert p_value(counts, squared) > 0.01
    assert p_value(counts, np.sqrt(squared)) < 1e-6


def test_the_third_centre_by_the_nearest_of_two():
    # collinear: after 5 and 0 the others are 1 and 2 from their nearest centre, so 1 to 4
    points = np.array([[0.0], [1.0], [3.0], [5.0]])
    rng, third = np.random.default_rng(0), []
    for _ in range(4000):
        one, two, three = kmeans_plusplus(points, names(4), 3, rng).indices_B
        if (one, two) == (3, 0):
            third.append(three)
    assert p_value(np.bincount(third, minlength=4), [0, 1, 4, 0]) > 0.01


def test_the_uniform_first_centre_is_uniform():
    select = partial(kmeans_plusplus, POINTS, names(4), 1, first="uniform")
    assert p_value(counts_of_first(select, 4, 3000), np.ones(4)) > 0.01


def test_pairs_are_distributed_as_scikit_learns():
    theirs = np.zeros((4, 4))
    for seed in range(2500):
        _, (one, two) = sklearn_kmeans_plusplus(POINTS, 2, random_state=seed, n_local_trials=1)
        theirs[one, two] += 1
    off_diagonal = ~np.eye(4, dtype=bool)
    assert (theirs[~off_diagonal] == 0).all()

    def agreement(ours: np.ndarray) -> float:
        return float(chi2_contingency(np.stack([ours[off_diagonal], theirs[off_diagonal]])).pvalue)

    assert agreement(second_given_first("uniform", 2500)) > 0.01
    # the test notices a draw in proportion to the distance itself
    distances = np.sqrt(np.square(POINTS[:, None] - POINTS).sum(axis=2))
    wrong = np.round(2500 / 4 * distances / distances.sum(axis=1, keepdims=True))
    assert agreement(wrong) < 1e-6


def test_a_copy_of_a_centre_is_drawn_only_when_nothing_else_is_left():
    points = np.repeat(np.random.default_rng(0).normal(size=(5, 3)), 4, axis=0)
    for seed in range(20):
        selection = kmeans_plusplus(points, names(20), 20, np.random.default_rng(seed))
        assert set(selection.indices_B[:5] // 4) == set(range(5))
        np.testing.assert_array_equal(selection.gains_B[5:], np.zeros(15))


def test_among_equal_points_the_draw_is_uniform():
    counts = second_given_first("largest_norm", 3000, np.ones((5, 2)))[0]
    assert p_value(counts, [0, 1, 1, 1, 1]) > 0.01


@pytest.mark.parametrize("scale", [2.0**-400, 2.0**-100, 2.0**300])
def test_scale_changes_nothing(scale):
    points = np.random.default_rng(0).normal(size=(30, 4))
    plain, scaled = (kmeans_plusplus(p, names(30), 10, np.random.default_rng(1)) for p in (points, points * scale))
    np.testing.assert_array_equal(plain.indices_B, scaled.indices_B)


def the_same_as_the_plain_way(rows, budget, first):
    names_N = [names(len(rows))[index] for index in np.random.default_rng(0).permutation(len(rows))]
    selection = kmeans_plusplus(rows, names_N, budget, np.random.default_rng(5), first)
    picked, gains = plain.kmeans_plusplus(rows, names_N, budget, np.random.default_rng(5), first)
    np.testing.assert_array_equal(selection.indices_B, picked)
    np.testing.assert_array_equal(selection.gains_B, gains)


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"float64 1e-160", "float64 all scales"}))
@pytest.mark.parametrize("first", ["largest_norm", "uniform"])
@pytest.mark.parametrize("sketched", [False, True])
def test_it_is_the_plain_way_to_the_last_bit(kind, first, sketched, monkeypatch):
    monkeypatch.setattr(sketch, "_FEWEST_DIMENSIONS", 40 if sketched else 1000)
    monkeypatch.setattr(sketch, "_SAMPLE", 20)
    the_same_as_the_plain_way(embeddings(kind, 150, 40), 30, first)


@pytest.mark.parametrize("kind", ["normal", "low rank", "heavy tails"])
def test_it_is_the_plain_way_for_long_rows(kind):
    the_same_as_the_plain_way(embeddings(kind, 1100, 2100), 15, "largest_norm")


def test_a_sketch_spares_reading_most_rows(monkeypatch):
    read = []

    def counted(squared_N, embeddings_N_d, centre, anchor_d, rows_K, away_N):
        read.append(len(squared_N) if rows_K is None else len(rows_K))
        update_nearest(squared_N, embeddings_N_d, centre, anchor_d, rows_K, away_N)

    monkeypatch.setattr(module, "update_nearest", counted)
    kmeans_plusplus(embeddings("low rank", 2000, 1100), names(2000), 40, np.random.default_rng(0))
    assert len(read) == 38
    assert 0 < sum(read) < 0.3 * 38 * 2000


def test_embeddings_may_lie_on_disk(tmp_path):
    embeddings = np.random.default_rng(0).normal(size=(300, 20)).astype(np.float32)
    np.save(tmp_path / "embeddings.npy", embeddings)
    mapped = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    batches = [kmeans_plusplus(e, names(300), 20, np.random.default_rng(0)).indices_B for e in (embeddings, mapped)]
    np.testing.assert_array_equal(*batches)


def test_an_unknown_first_centre_is_our_mistake():
    with pytest.raises(AssertionError, match="median"):
        kmeans_plusplus(POINTS, names(4), 1, np.random.default_rng(0), first="median")
