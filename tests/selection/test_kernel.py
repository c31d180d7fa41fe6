"""The kernel is the similarity that the paper defines, and a row of it is the same number for number whenever asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from nnunet_al.selection.flqmi import flqmi_gain_order
from nnunet_al.selection.kernel import SimilarityKernel
from nnunet_al.selection.kernel_blocks import BLOCK_ROWS, KernelBlocks

COUNT = 2 * BLOCK_ROWS + 76  # the last block is not full


@pytest.fixture
def embeddings_N_d() -> np.ndarray:
    """Of sizes that differ much."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(COUNT, 20)) * np.exp(rng.normal(size=(COUNT, 1)))).astype(np.float32)


def whole(embeddings_N_d, order_M, query_Q, cosine) -> np.ndarray:
    kernel = SimilarityKernel(KernelBlocks(embeddings_N_d, order_M, query_Q, cosine), 0)
    return kernel[np.arange(len(order_M))]


def test_cosine_is_scipys(embeddings_N_d):
    order, query = np.random.default_rng(1).permutation(COUNT), np.array([5, 900, 3])
    kernel = whole(embeddings_N_d, order, query, cosine=True)
    expected = 1 - cdist(embeddings_N_d[order].astype(np.float64), embeddings_N_d[query], metric="cosine")
    np.testing.assert_allclose(kernel, expected, atol=1e-6)
    assert kernel.dtype == np.float32


def test_inner_product(embeddings_N_d):
    order, query = np.arange(COUNT), np.array([0, COUNT - 1])
    kernel = whole(embeddings_N_d, order, query, cosine=False)
    expected = embeddings_N_d.astype(np.float64) @ embeddings_N_d[query].T.astype(np.float64)
    np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("power", [-140, -100, -41, 39, 60, 120])
def test_cosine_ignores_length_from_tiny_to_huge_gradients(embeddings_N_d, power):
    scaled = np.ldexp(embeddings_N_d, power)  # squares vanish or overflow in float32
    order, query = np.arange(COUNT), np.array([0, 7, 600])
    expected = whole(embeddings_N_d, order, query, cosine=True)
    # 2^-140 leaves a gradient some digits only
    np.testing.assert_allclose(whole(scaled, order, query, True), expected, atol=1e-2 if power == -140 else 1e-6)


def test_a_zero_embedding_is_similar_to_nothing(embeddings_N_d):
    embeddings_N_d[3] = 0
    kernel = whole(embeddings_N_d, np.arange(COUNT), np.array([3, 4]), cosine=True)
    assert (kernel[3] == 0).all()
    assert (kernel[:, 0] == 0).all()


def test_empty_query_and_empty_pool(embeddings_N_d):
    none = np.zeros(0, dtype=np.int64)
    assert whole(embeddings_N_d, np.arange(COUNT), none, cosine=True).shape == (COUNT, 0)
    assert whole(embeddings_N_d, none, np.arange(2), cosine=True).shape == (0, 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_embeddings_may_lie_on_disk_in_another_number_type(embeddings_N_d, tmp_path, dtype):
    embeddings_N_d = embeddings_N_d.astype(dtype)
    np.save(tmp_path / "embeddings.npy", embeddings_N_d)
    mapped = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    order, query = np.arange(COUNT)[::-1], np.array([2, 9])
    np.testing.assert_array_equal(
        whole(mapped, order, query, cosine=True), whole(embeddings_N_d.astype(np.float32), order, query, cosine=True)
    )


def test_a_similarity_that_is_no_number_is_found(embeddings_N_d):
    embeddings_N_d[COUNT - 1] = 3e38
    with pytest.raises(AssertionError, match="not finite"):
        whole(embeddings_N_d, np.arange(COUNT), np.array([COUNT - 1]), cosine=False)


def scanned(blocks: KernelBlocks, kept_rows: int, priority_N: np.ndarray) -> tuple[SimilarityKernel, np.ndarray]:
    """The kernel after its scan, and what the scan showed."""
    kernel, shown = SimilarityKernel(blocks, kept_rows), []
    kernel.scan(lambda first, rows: shown.append((first, rows.copy())), priority_N)
    assert [first for first, _ in shown] == list(range(0, COUNT, BLOCK_ROWS))
    return kernel, np.concatenate([rows for _, rows in shown])


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("dimensions, queries", [(20, 3), (333, 101)])
def test_a_row_is_the_same_kept_or_computed_again_alone_or_among_others(cosine, dimensions, queries):
    rng = np.random.default_rng(2)
    embeddings_N_d = rng.normal(size=(COUNT, dimensions)).astype(np.float32)
    blocks = KernelBlocks(embeddings_N_d, rng.permutation(COUNT), rng.permutation(COUNT)[:queries], cosine)
    all_kept, shown = scanned(blocks, COUNT, np.zeros(COUNT))
    some_kept, _ = scanned(blocks, 300, rng.normal(size=COUNT))
    none_kept, _ = scanned(blocks, 0, np.zeros(COUNT))
    asked = rng.integers(0, COUNT, size=50)
    for kernel in (all_kept, some_kept, none_kept):
        np.testing.assert_array_equal(kernel[np.arange(COUNT)], shown)
        np.testing.assert_array_equal(kernel[asked], shown[asked])
        for index in asked[:5]:
            np.testing.assert_array_equal(kernel[np.array([index])], shown[[index]])


def test_the_rows_that_are_worth_most_are_kept(embeddings_N_d):
    priority_N = np.random.default_rng(5).permutation(COUNT).astype(float)
    kernel, shown = scanned(KernelBlocks(embeddings_N_d, np.arange(COUNT), np.arange(4), True), 100, priority_N)
    np.testing.assert_array_equal(kernel.is_kept(np.arange(COUNT)), priority_N >= COUNT - 100)
    # worth changes, and a row that was asked for takes the place of the one that is now worth least
    priority_N[priority_N == COUNT - 50] = -1
    stranger = int(np.flatnonzero(priority_N == 3)[0])
    kernel.keep(np.array([stranger]), shown[[stranger]])
    np.testing.assert_array_equal(kernel.is_kept(np.arange(COUNT)), (priority_N >= COUNT - 100) | (priority_N == 3))
    np.testing.assert_array_equal(kernel[np.arange(COUNT)], shown)


def test_rows_that_come_together():
    kernel = SimilarityKernel(KernelBlocks(np.ones((COUNT, 2)), np.arange(COUNT), np.arange(2), True), 0)
    np.testing.assert_array_equal(kernel.block_of(BLOCK_ROWS), np.arange(BLOCK_ROWS, 2 * BLOCK_ROWS))
    np.testing.assert_array_equal(kernel.block_of(COUNT - 1), np.arange(2 * BLOCK_ROWS, COUNT))


@pytest.mark.parametrize("greedy", ["naive", "stochastic"])
@pytest.mark.parametrize("cosine", [True, False])
def test_what_is_kept_changes_no_batch(embeddings_N_d, greedy, cosine):
    query, multiplicities = np.arange(0, COUNT, 20), np.random.default_rng(3).integers(1, 4, size=-(-COUNT // 20))
    selections = [
        flqmi_gain_order(
            SimilarityKernel(KernelBlocks(embeddings_N_d, np.arange(COUNT), query, cosine), kept),
            multiplicities,
            25,
            np.random.default_rng(6),
            greedy=greedy,
        )
        for kept in (COUNT, 600, 50, 0)
    ]
    array = whole(embeddings_N_d, np.arange(COUNT), query, cosine)
    plain = flqmi_gain_order(array, multiplicities, 25, np.random.default_rng(6), greedy=greedy)
    for selection in selections:
        np.testing.assert_array_equal(selection.indices_B, plain.indices_B)
        np.testing.assert_array_equal(selection.gains_B, plain.gains_B)


def test_float32_is_multiplied_as_float32():
    # some processors multiply in bfloat16 where a program allows it
    embeddings_N_d = np.random.default_rng(7).normal(size=(600, 512)).astype(np.float32)
    expected = whole(embeddings_N_d, np.arange(600), np.arange(64), cosine=False)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = whole(embeddings_N_d, np.arange(600), np.arange(64), cosine=False)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_array_equal(found, expected)
