from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.kernel_approximation import PolynomialCountSketch

from nnunet_al.scoring.sketch import CountSketch, bucket_members


def _vectors(count: int, size: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(4), dtype=torch.float64).to(dtype)


def _matrix(sketch: CountSketch) -> torch.Tensor:
    """S, (size, size_in), from the unit vectors."""
    return sketch(torch.eye(sketch.size_in, dtype=torch.float64)).T


@pytest.mark.parametrize("size_in,size_out", [(12, 4), (23, 7), (50, 49), (9, 1)])
def test_each_entry_goes_to_one_bucket_with_a_sign_and_buckets_are_equally_full(size_in: int, size_out: int) -> None:
    sketch = CountSketch(size_in, size_out, np.random.default_rng(0))
    matrix = _matrix(sketch)
    assert matrix.shape == (size_out, size_in)
    assert (matrix.abs().sum(0) == 1).all()
    assert set(matrix.unique().tolist()) <= {-1.0, 0.0, 1.0}
    counts = matrix.abs().sum(1)
    assert counts.max() - counts.min() <= 1
    values = _vectors(3, size_in)
    torch.testing.assert_close(sketch(values), values @ matrix.T)


def test_equal_to_scikit_learns_with_its_signs_and_buckets() -> None:
    values = _vectors(4, 40)
    theirs = PolynomialCountSketch(degree=1, n_components=8, random_state=0).fit(values.numpy())
    ours = CountSketch(40, 8, np.random.default_rng(0))
    ours._bucket_n, ours._sign_n = theirs.indexHash_[0].astype(np.int64), theirs.bitHash_[0].astype(np.int8)
    np.testing.assert_allclose(ours(values).numpy(), theirs.transform(values.numpy()), atol=1e-12)


def test_inner_products_are_right_on_average_with_the_stated_variance() -> None:
    size_in, size_out, seeds = 12, 4, 6000
    x, y = np.random.default_rng(7).normal(size=(2, size_in)) + 0.5
    pair = torch.from_numpy(np.stack([x, y]))
    products = np.empty(seeds)
    for seed in range(seeds):
        first, second = CountSketch(size_in, size_out, np.random.default_rng(seed))(pair).numpy()
        products[seed] = first @ second
    meeting = 2 / 11  # another entry is one of the two that share a bucket of three
    cross = np.outer(x**2, y**2) + np.outer(x * y, x * y)
    variance = meeting * (cross.sum() - np.trace(cross))
    assert abs(products.mean() - x @ y) < 4 * np.sqrt(variance / seeds)
    assert abs(x @ y) > 10 * np.sqrt(variance / seeds)
    assert products.var() == pytest.approx(variance, rel=0.1)


def test_same_seed_same_sketch() -> None:
    first, second, other = (_matrix(CountSketch(30, 5, np.random.default_rng(seed))) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_linear() -> None:
    sketch = CountSketch(100, 9, np.random.default_rng(3))
    x, y = _vectors(2, 100).split(1)
    torch.testing.assert_close(sketch(2 * x - 3 * y), 2 * sketch(x) - 3 * sketch(y))


@pytest.mark.parametrize("size_out", [7, 200])
def test_parts_add_up_to_the_whole(size_out: int) -> None:
    sketch = CountSketch(100, size_out, np.random.default_rng(3))
    values = _vectors(3, 100)
    whole = sketch(values)
    pieces = [slice(0, 37), slice(37, 38), slice(38, 38), slice(38, None)]
    strided = [slice(0, 40), *(slice(40 + k, 100, 9) for k in range(9))]
    for partition in (pieces, strided):
        torch.testing.assert_close(sum(sketch.part(values[:, some], some) for some in partition), whole)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_sample_is_the_same_to_the_bit_in_every_batch(threads: int) -> None:
    before = torch.get_num_threads()
    sketch = CountSketch(50_000, 1000, np.random.default_rng(3))
    values = _vectors(5, 50_000, torch.float32)
    whole = sketch(values)
    try:
        torch.set_num_threads(threads)
        assert torch.equal(sketch(values), whole)
        assert torch.equal(torch.cat([sketch(values[:1]), sketch(values[1:])]), whole)
    finally:
        torch.set_num_threads(before)


def test_values_are_left_as_they_are() -> None:
    sketch = CountSketch(20, 3, np.random.default_rng(3))
    values = _vectors(2, 20, torch.float32)
    copy = values.clone()
    result = sketch(values)
    assert torch.equal(values, copy)
    assert result.dtype == torch.float32


@pytest.mark.parametrize("size_out", [20, 21])
def test_identity_where_nothing_would_be_saved(size_out: int) -> None:
    rng = np.random.default_rng(3)
    sketch = CountSketch(20, size_out, rng)
    values = _vectors(2, 20)
    assert sketch.size == 20
    assert torch.equal(sketch(values), values)
    assert rng.random() == np.random.default_rng(3).random()


def test_members_of_buckets_by_hand() -> None:
    members = bucket_members(np.array([2, 0, 2, 2, 0]), 4)
    assert members.tolist() == [[1, 5, 0, 5], [4, 5, 2, 5], [5, 5, 3, 5]]
    assert bucket_members(np.array([], dtype=np.int64), 2).tolist() == [[0, 0]]
