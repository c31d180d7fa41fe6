from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nnunet_al.selection.kernel import similarity_kernel


@pytest.fixture
def embeddings_N_d() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1100, 20)).astype(np.float32)


def test_cosine_is_scipys(embeddings_N_d):
    order, query = np.random.default_rng(1).permutation(1100), np.array([5, 900, 3])
    kernel = similarity_kernel(embeddings_N_d, order, query, cosine=True)
    expected = 1 - cdist(embeddings_N_d[order], embeddings_N_d[query], metric="cosine")
    np.testing.assert_allclose(kernel, expected, atol=2e-6)
    assert kernel.dtype == np.float32


def test_inner_product(embeddings_N_d):
    order, query = np.arange(1100), np.array([0, 1099])
    kernel = similarity_kernel(embeddings_N_d, order, query, cosine=False)
    expected = embeddings_N_d.astype(np.float64) @ embeddings_N_d[query].T.astype(np.float64)
    np.testing.assert_allclose(kernel, expected, atol=2e-5)


def test_cosine_ignores_length_down_to_tiny_gradients(embeddings_N_d):
    tiny = embeddings_N_d * np.float32(1e-30)  # squares vanish in float32
    order, query = np.arange(1100), np.array([0, 7])
    np.testing.assert_allclose(
        similarity_kernel(tiny, order, query, cosine=True),
        similarity_kernel(embeddings_N_d, order, query, cosine=True),
        atol=2e-6,
    )


def test_a_zero_embedding_is_similar_to_nothing(embeddings_N_d):
    embeddings_N_d[3] = 0
    kernel = similarity_kernel(embeddings_N_d, np.arange(1100), np.array([3, 4]), cosine=True)
    assert (kernel[3] == 0).all()
    assert (kernel[:, 0] == 0).all()


def test_empty_query_and_empty_pool(embeddings_N_d):
    none = np.zeros(0, dtype=np.int64)
    assert similarity_kernel(embeddings_N_d, np.arange(1100), none, cosine=True).shape == (1100, 0)
    assert similarity_kernel(embeddings_N_d, none, np.arange(2), cosine=True).shape == (0, 2)


def test_embeddings_may_lie_on_disk(embeddings_N_d, tmp_path):
    np.save(tmp_path / "embeddings.npy", embeddings_N_d)
    mapped = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    order, query = np.arange(1100)[::-1], np.array([2, 9])
    np.testing.assert_array_equal(
        similarity_kernel(mapped, order, query, cosine=True),
        similarity_kernel(embeddings_N_d, order, query, cosine=True),
    )
