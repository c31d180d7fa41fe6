from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nnunet_al.selection import distances
from nnunet_al.selection.k_center import k_center
from nnunet_al.selection.nearest import nearest_squared, update_nearest

from . import plain
from .embeddings import KINDS, embeddings
from .pools import chosen, names

k_center_module = import_module("nnunet_al.selection.k_center")  # its name on the package is the function


def brute_force(embeddings_N_d, names_N, budget, references_M_d=None) -> tuple[list[int], list[float]]:
    """The whole matrix of distances, and at every step a search by distance and name."""
    count = len(names_N)
    references = np.zeros((0, embeddings_N_d.shape[1])) if references_M_d is None else references_M_d
    everything = np.concatenate([embeddings_N_d, references]).astype(np.float64)
    distances = cdist(everything, everything)
    centres, picked, gains = list(range(count, len(everything))), [], []
    for _ in range(min(budget, count)):
        far = {i: min((distances[i, c] for c in centres), default=0.0) for i in range(count) if i not in picked}
        index = min(far, key=lambda i: (-far[i], names_N[i]))
        picked.append(index)
        gains.append(far[index])
        centres.append(index)
    return picked, gains


def test_a_worked_example():
    names_N = ["d", "a", "c", "b"]
    embeddings = np.array([[10.0], [0], [4], [6]])
    # a first by name; d is 10 away; then c and b are 4 away from a and d: b by name; then c, 2 from b
    selection = k_center(embeddings, names_N, 4)
    assert chosen(selection, names_N) == ["a", "d", "b", "c"]
    np.testing.assert_array_equal(selection.gains_B, [0, 10, 4, 2])


def test_references_are_centres_already():
    names_N = ["d", "a", "c", "b"]
    embeddings = np.array([[10.0, 0], [0, 0], [4, 0], [6, 3]])
    selection = k_center(embeddings, names_N, 2, np.array([[10.0, 0], [6, 0]]))
    assert chosen(selection, names_N) == ["a", "b"]  # 6 and 3 away
    np.testing.assert_array_equal(selection.gains_B, [6, 3])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("levels", [2, 1000])
@pytest.mark.parametrize("references", [None, 0, 1, 5])
def test_it_is_the_brute_force_greedy(seed, levels, references):
    rng = np.random.default_rng(seed)
    # few levels make duplicates and ties
    embeddings = rng.integers(0, levels, size=(30, 3)).astype(np.float32)
    names_N = [names(30)[index] for index in rng.permutation(30)]
    given = None if references is None else rng.integers(0, levels, size=(references, 3)).astype(np.float32)
    selection = k_center(embeddings, names_N, 30, given)
    picked, gains = brute_force(embeddings, names_N, 30, given)
    np.testing.assert_array_equal(selection.indices_B, picked)
    np.testing.assert_allclose(selection.gains_B, gains, rtol=1e-12)


def test_distances_never_increase_and_cover_within_twice_the_optimum():
    embeddings = np.random.default_rng(0).normal(size=(9, 2))
    gains = k_center(embeddings, names(9), 9).gains_B[1:]
    assert (np.diff(gains) <= 0).all()
    distances = cdist(embeddings, embeddings)
    best = min(distances[:, [i, j, k]].min(axis=1).max() for i in range(9) for j in range(i) for k in range(j))
    chosen_B = k_center(embeddings, names(9), 3).indices_B
    assert best <= distances[:, chosen_B].min(axis=1).max() <= 2 * best


def test_copies_of_a_reference_come_last_at_distance_zero():
    row = np.random.default_rng(0).normal(size=100) * 1e5 + 1e8
    embeddings = np.stack([row, row + 1, row])
    selection = k_center(embeddings, names(3), 3, row[None])
    np.testing.assert_array_equal(selection.indices_B, [1, 0, 2])
    np.testing.assert_array_equal(selection.gains_B[1:], [0, 0])


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_squared_distances_are_scipys_at_any_scale(scale):
    rng = np.random.default_rng(0)
    embeddings = (rng.normal(size=(40, 9)) * scale).astype(np.float32)
    centres = (rng.normal(size=(6, 9)) * scale).astype(np.float32)
    expected = cdist(embeddings.astype(np.float64), centres.astype(np.float64), "sqeuclidean").min(axis=1)
    np.testing.assert_allclose(nearest_squared(embeddings, centres), expected, rtol=1e-12)


@pytest.mark.parametrize("dimensions", [0, 1, 33, 700])
def test_tiles_change_nothing(dimensions, monkeypatch):
    rng = np.random.default_rng(0)
    embeddings, centres = rng.normal(size=(50, dimensions)), rng.normal(size=(3, dimensions))
    whole = nearest_squared(embeddings, centres)
    for elements in (1, 7 * max(dimensions, 1), 49 * max(dimensions, 1)):
        monkeypatch.setattr(distances, "_TILE_ELEMENTS", elements)
        np.testing.assert_array_equal(nearest_squared(embeddings, centres), whole)
        np.testing.assert_array_equal(nearest_squared(embeddings[::-1], centres), whole[::-1])
        np.testing.assert_array_equal(nearest_squared(np.asfortranarray(embeddings), centres), whole)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("references", [0, 1, 30])
def test_it_is_the_plain_way_to_the_last_bit(kind, references):
    rows, given = embeddings(kind, 150, 20), embeddings(kind, references, 20, seed=1)
    names_N = [names(150)[index] for index in np.random.default_rng(0).permutation(150)]
    selection = k_center(rows, names_N, 60, given)
    picked, gains = plain.k_center(rows, names_N, 60, given)
    np.testing.assert_array_equal(selection.indices_B, picked)
    np.testing.assert_array_equal(selection.gains_B, gains)


@pytest.mark.parametrize("dimensions", [1, 2, 50])
@pytest.mark.parametrize("block, elements", [(1, 1), (2, 100), (1 << 20, 1 << 20)])
def test_how_many_are_looked_at_together_changes_nothing(dimensions, block, elements, monkeypatch):
    monkeypatch.setattr(k_center_module, "_FIRST_BLOCK", block)
    monkeypatch.setattr(k_center_module, "_ROW_ELEMENTS", elements)
    rows = np.random.default_rng(0).integers(0, 40, size=(300, dimensions)).astype(np.float32)
    selection = k_center(rows, names(300), 100)
    picked, gains = plain.k_center(rows, names(300), 100)
    np.testing.assert_array_equal(selection.indices_B, picked)
    np.testing.assert_array_equal(selection.gains_B, gains)


def test_few_regions_are_looked_at_for_each_choice(monkeypatch):
    looked_at = []

    def counted(squared_N, *others):
        looked_at.append(len(squared_N))
        update_nearest(squared_N, *others)

    monkeypatch.setattr(k_center_module, "update_nearest", counted)
    k_center(embeddings("normal", 3000, 30), names(3000), 50)
    assert 0 < sum(looked_at) < 0.1 * 50 * 3000


def test_more_centres_are_the_minimum_over_them():
    rng = np.random.default_rng(0)
    embeddings, centres = rng.normal(size=(50, 5)), rng.normal(size=(4, 5))
    one_by_one = np.min([nearest_squared(embeddings, centre[None]) for centre in centres], axis=0)
    np.testing.assert_array_equal(nearest_squared(embeddings, centres), one_by_one)
    assert np.isinf(nearest_squared(embeddings, centres[:0])).all()


def test_embeddings_may_lie_on_disk(tmp_path):
    embeddings = np.random.default_rng(0).normal(size=(300, 20)).astype(np.float32)
    np.save(tmp_path / "embeddings.npy", embeddings)
    mapped = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    first, second = (k_center(array, names(300), 20, array[:5]) for array in (embeddings, mapped))
    np.testing.assert_array_equal(first.indices_B, second.indices_B)
    np.testing.assert_array_equal(first.gains_B, second.gains_B)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_must_be_finite(bad):
    with pytest.raises(AssertionError, match="not finite"):
        k_center(np.array([[0.0], [bad]]), names(2), 2)
