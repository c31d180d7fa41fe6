from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_al.errors import ModelError
from nnunet_al.scoring.fisher import damping, fisher_scale, sample_parameters, sampled_fisher
from nnunet_al.scoring.gradients import select_entries

from .plain import mean_of_squares

SHAPES = {"a": (3, 2, 3, 3), "b": (2, 3, 1, 1)}


def _gradients(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(count, *shape, generator=generator) for name, shape in SHAPES.items()}


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_kernel_is_the_inner_product_of_scaled_embeddings() -> None:
    gradients = _gradients(6)
    fisher = mean_of_squares([gradients])
    entries = sample_parameters(fisher, 20, _rng())
    g = select_entries(gradients, entries).double().numpy()
    f = sampled_fisher(fisher, entries)
    assert f.shape == (20,)
    np.testing.assert_allclose(f, (g**2).mean(0))  # the same parameters in the same order
    scaled = g * fisher_scale(f)
    expected = g @ np.diag(1 / (f + damping(f))) @ g.T
    np.testing.assert_allclose(scaled @ scaled.T, expected, rtol=1e-12)
    assert damping(f) == pytest.approx(1e-3 * f.mean())
    assert damping(f, 0.5) == pytest.approx(0.5 * f.mean())


def test_scale_without_any_information_is_one() -> None:
    assert fisher_scale(np.zeros(4)).tolist() == [1.0] * 4
    assert np.isfinite(fisher_scale(np.array([0.0, 1e-30]))).all()


def test_sampling_is_without_replacement_sorted_and_repeatable() -> None:
    fisher = {name: tensor[0].square() for name, tensor in _gradients(1).items()}
    first, again = sample_parameters(fisher, 25, _rng()), sample_parameters(fisher, 25, _rng())
    assert list(first) == list(fisher)
    assert sum(map(len, first.values())) == 25
    for name, indices in first.items():
        assert indices.dtype == np.int64
        assert (np.diff(indices) > 0).all()
        assert len(indices) == 0 or (indices[0] >= 0 and indices[-1] < fisher[name].numel())
        assert np.array_equal(indices, again[name])
    other = sample_parameters(fisher, 25, _rng(1))
    assert any(not np.array_equal(first[name], other[name]) for name in fisher)


def test_chance_is_proportional_to_fisher() -> None:
    fisher = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3.0], [4.0]])}
    rng, counts = _rng(), np.zeros(4)
    for _ in range(4000):
        drawn = sample_parameters(fisher, 1, rng)
        counts[[*drawn["a"], *(drawn["b"] + 2)]] += 1
    np.testing.assert_allclose(counts / 4000, [0.1, 0.2, 0.3, 0.4], atol=0.03)


def test_successive_draws_have_numpys_distribution() -> None:
    values = np.array([1.0, 5.0, 2.0, 8.0])
    ours, theirs = np.zeros(4), np.zeros(4)
    rng = _rng()
    for _ in range(4000):
        ours[sample_parameters({"a": torch.from_numpy(values)}, 2, rng)["a"]] += 1
        theirs[rng.choice(4, 2, replace=False, p=values / values.sum())] += 1
    np.testing.assert_allclose(ours / 4000, theirs / 4000, atol=0.04)


def test_few_positive_entries_all_come_and_the_rest_is_uniform() -> None:
    values = torch.zeros(50)
    values[[3, 40]] = torch.tensor([1e-300, 1e9]).float()
    values[3] = 1e-30
    counts = np.zeros(50)
    rng = _rng()
    for _ in range(2000):
        drawn = sample_parameters({"a": values}, 10, rng)["a"]
        assert len(drawn) == 10
        counts[drawn] += 1
    assert counts[3] == counts[40] == 2000
    np.testing.assert_allclose(np.delete(counts, [3, 40]) / 2000, 8 / 48, atol=0.05)


def test_all_zero_is_uniform_and_too_many_is_all() -> None:
    zero = {"a": torch.zeros(4), "b": torch.zeros(6)}
    rng, counts = _rng(), np.zeros(10)
    for _ in range(2000):
        drawn = sample_parameters(zero, 5, rng)
        counts[[*drawn["a"], *(drawn["b"] + 4)]] += 1
    np.testing.assert_allclose(counts / 2000, 0.5, atol=0.05)
    everything = sample_parameters({"a": torch.ones(4), "b": torch.zeros(6)}, 99, rng)
    assert {name: part.tolist() for name, part in everything.items()} == {"a": [*range(4)], "b": [*range(6)]}


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ModelError, match="not finite"):
        sample_parameters({"a": torch.tensor([1.0, float("nan")])}, 1, _rng())
