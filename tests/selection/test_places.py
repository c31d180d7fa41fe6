"""Where embeddings lie in memory, and in the pool, changes no bit of a similarity, a distance or a choice."""

from __future__ import annotations

import numpy as np
import pytest
from places import OFFSETS, array_at, bits, round_by_address, threads

from nnunet_al.selection.distances import squared_to
from nnunet_al.selection.flqmi import flqmi_gain_order
from nnunet_al.selection.k_center import k_center
from nnunet_al.selection.kernel import SimilarityKernel
from nnunet_al.selection.kernel_blocks import KernelBlocks
from nnunet_al.selection.kmeans_plusplus import kmeans_plusplus
from nnunet_al.selection.nearest import nearest_squared
from nnunet_al.selection.selection import Selection

COUNT, LENGTHS = 61, (7, 99, 437, 1031)
NAMES = [f"{index:03}" for index in range(COUNT)]


def embeddings(length: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(COUNT, length)).astype(dtype)


def kernel(embeddings_N_d: np.ndarray, cosine: bool) -> np.ndarray:
    blocks = KernelBlocks(embeddings_N_d, np.arange(COUNT), np.array([3, 50, 11]), cosine)
    return SimilarityKernel(blocks, 0)[np.arange(COUNT)]


def flqmi(embeddings_N_d: np.ndarray) -> np.ndarray:
    multiplicities_Q = np.array([1, 2, 1])
    return chosen(flqmi_gain_order(kernel(embeddings_N_d, True), multiplicities_Q, 9, np.random.default_rng(0)))


def chosen(selection: Selection) -> np.ndarray:
    return np.stack([selection.indices_B, selection.gains_B])


FUNCTIONS = {
    "cosine kernel": lambda some: kernel(some, True),
    "Fisher kernel": lambda some: kernel(some, False),
    "FLQMI": flqmi,
    "distances": lambda some: squared_to(some, some[5]),
    "nearest": lambda some: nearest_squared(some, some[:20]),
    "core-set": lambda some: chosen(k_center(some, NAMES, 12, some[:3])),
    "k-means++": lambda some: chosen(kmeans_plusplus(some, NAMES, 14, np.random.default_rng(0))),
}


@pytest.fixture(params=["torch's products", "products that round by address"], autouse=True)
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "torch's products":
        round_by_address(monkeypatch)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_where_embeddings_lie_in_memory_changes_no_bit(name, length, dtype, count):
    values = embeddings(length, dtype)
    with threads(count):
        assert len({bits(FUNCTIONS[name](array_at(values, offset))) for offset in OFFSETS}) == 1


@pytest.mark.parametrize("length", LENGTHS)
def test_a_distance_does_not_depend_on_the_rows_place(length):
    values = embeddings(length)
    expected = squared_to(values, values[5])
    for place in range(1, COUNT):
        assert bits(squared_to(values[place:], values[5])) == bits(expected[place:])
