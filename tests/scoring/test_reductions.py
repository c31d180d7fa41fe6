from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_al.scoring.reductions import REDUCTIONS, ClassWeighted, Mean, class_weights

CONTEXT = {"annotated_voxels_C": [10, 0, 5], "something_else": 1}


def _map(name: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    channels = (3,) if REDUCTIONS[name].per_class else ()
    values = torch.rand(2, *channels, 8, 6, 4, generator=generator)
    return values, torch.rand(2, 8, 6, 4, generator=generator) > 0.4


@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_chunked_is_whole(name: str) -> None:
    reduction = REDUCTIONS[name]
    values, mask = _map(name)
    whole = reduction.finish(reduction.partial(values, mask), **CONTEXT)
    chunks = [
        reduction.partial(values[..., z : z + 3, :, :], mask[..., z : z + 3, :, :])
        for z in range(0, values.shape[-3], 3)
    ]
    np.testing.assert_allclose(reduction.finish(sum(chunks), **CONTEXT), whole, rtol=1e-14)
    np.testing.assert_allclose(reduction.finish(sum(reversed(chunks)), **CONTEXT), whole, rtol=1e-14)
    # a disjoint cover by masks, the way windows of a region share their voxels out
    left = torch.zeros_like(mask)
    left[:, :, :2] = True
    parts = reduction.partial(values, mask & left) + reduction.partial(values, mask & ~left)
    np.testing.assert_allclose(reduction.finish(parts, **CONTEXT), whole, rtol=1e-14)


@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_statistics_and_scores_have_their_shapes(name: str) -> None:
    reduction = REDUCTIONS[name]
    values, mask = _map(name)
    stats = reduction.partial(values, mask, torch.zeros(mask.shape))
    assert stats.dtype == torch.float64
    assert stats.shape[0] == 2
    scores = reduction.finish(stats, **CONTEXT)
    assert scores.shape == (2,)
    assert np.array_equal(reduction.finish(stats.numpy(), **CONTEXT), scores)
    assert scores.dtype == np.float64
    assert reduction.name == name


@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_empty_mask_scores_zero(name: str) -> None:
    reduction = REDUCTIONS[name]
    values, mask = _map(name)
    stats = reduction.partial(values, torch.zeros_like(mask))
    assert reduction.finish(stats, **CONTEXT).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_what_lies_outside_the_region_does_not_count(name: str) -> None:
    reduction = REDUCTIONS[name]
    values, mask = _map(name)
    outside = ~mask.unsqueeze(1) if reduction.per_class else ~mask
    spoiled = torch.where(outside, torch.nan, values)
    assert torch.equal(reduction.partial(spoiled, mask), reduction.partial(values, mask))


def test_mean_is_numpys() -> None:
    values, mask = _map("mean")
    expected = [values[b].double().numpy()[mask[b].numpy()].mean() for b in range(2)]
    np.testing.assert_allclose(Mean().finish(Mean().partial(values, mask)), expected, rtol=1e-14)


def test_class_weights_known_answers() -> None:
    np.testing.assert_allclose(class_weights([1, 3]), [0.75, 0.25])
    np.testing.assert_allclose(class_weights([0, 1]), [0.5, 0.5])  # not annotated counts as one voxel
    np.testing.assert_allclose(class_weights([0, 0]), [0.5, 0.5])
    assert class_weights([10, 0, 5]).argmax() == 1
    assert class_weights([7, 2, 9]).sum() == pytest.approx(1.0)


def test_class_weighted_is_the_formula() -> None:
    values = torch.zeros(1, 2, 2, 2)
    values[0, 0] = 1.0
    values[0, 1, 0, 0] = 2.0
    mask = torch.ones(1, 2, 2, dtype=torch.bool)
    score = ClassWeighted().finish(ClassWeighted().partial(values, mask), annotated_voxels_C=np.array([1, 3]))
    assert score.tolist() == [pytest.approx(0.75 * 1.0 + 0.25 * 0.5)]
