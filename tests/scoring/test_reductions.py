from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from nnunet_al.scoring.reductions import (
    REDUCTIONS,
    Boundary,
    ClassMeans,
    ClassWeighted,
    Evidence,
    Localized,
    Mean,
    Reduction,
    Target,
    class_weights,
    make_reduction,
)
from nnunet_al.scoring.region_scores import evidence_of
from nnunet_al.scoring.region_sums import predicted_voxels

CONTEXT = {"annotated_voxels_C": [10, 0, 5], "something_else": 1}
SPACING_MM = (2.0, 1.0, 0.7)
SHAPE = (8, 6, 4)
CHANNELS = ((), (1,), (2,), (1, 2), (0,))


def _reduction(name: str) -> Reduction:
    return make_reduction(name, {"dilation_mm": 1.5}, SPACING_MM)


def _windows(reduction: Reduction, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, Evidence]:
    generator = torch.Generator().manual_seed(seed)
    channels = (3,) if reduction.per_class else ()
    values = torch.rand(2, *channels, *SHAPE, generator=generator)
    mask = torch.rand(2, *SHAPE, generator=generator) > 0.4
    foreground = torch.rand(2, *SHAPE, generator=generator)
    return values, mask, Evidence(foreground, foreground > 0.95, foreground > 0.97, foreground**2)


def _part(evidence: Evidence, index: Any) -> Evidence:
    return Evidence(*(getattr(evidence, field.name)[index] for field in fields(Evidence)))


def _line(*foreground: float, roi: tuple[int, ...] = (), other: tuple[int, ...] = ()) -> Evidence:
    """Evidence of one window (1, 1, X) with the voxels predicted as classes of interest and as others."""
    interest = torch.zeros(1, 1, len(foreground), dtype=torch.bool)
    interest[..., list(roi)] = True
    predicted = interest.clone()
    predicted[..., list(other)] = True
    probability = torch.tensor(foreground).reshape(1, 1, -1)
    return Evidence(probability, predicted, interest, probability)


@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_shared_out_is_whole(name: str) -> None:
    reduction = _reduction(name)
    values, mask, evidence = _windows(reduction)
    whole = reduction.finish(reduction.partial(values, mask, evidence), **CONTEXT)
    # a disjoint cover by masks, the way windows of a region share their voxels out
    thirds = [torch.zeros_like(mask) for _ in range(3)]
    for index, third in enumerate(thirds):
        third[:, index * 3 : index * 3 + 3] = True
    chunks = [reduction.partial(values, mask & third, evidence) for third in thirds]
    np.testing.assert_allclose(reduction.finish(sum(chunks), **CONTEXT), whole, rtol=1e-14)
    np.testing.assert_allclose(reduction.finish(sum(reversed(chunks)), **CONTEXT), whole, rtol=1e-14)
    assert len(np.unique(whole)) > 1


@pytest.mark.parametrize("name", sorted(set(REDUCTIONS) - {"localized"}))
def test_what_is_voxelwise_does_not_need_the_whole_window(name: str) -> None:
    reduction = _reduction(name)
    values, mask, evidence = _windows(reduction)
    whole = reduction.finish(reduction.partial(values, mask, evidence), **CONTEXT)
    chunks = []
    for z in range(0, SHAPE[0], 3):
        part = (slice(None), slice(z, z + 3))
        some = _part(evidence, part)
        chunks.append(reduction.partial(values[..., z : z + 3, :, :], mask[part], some))
    np.testing.assert_allclose(reduction.finish(sum(chunks), **CONTEXT), whole, rtol=1e-14)


@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_statistics_and_scores_have_their_shapes(name: str) -> None:
    reduction = _reduction(name)
    stats = reduction.partial(*_windows(reduction))
    assert stats.dtype == torch.float64
    assert stats.shape[0] == 2
    scores = reduction.finish(stats, **CONTEXT)
    assert scores.shape == ((2, 3) if name == "class_means" else (2,))
    assert np.array_equal(reduction.finish(stats.numpy(), **CONTEXT), scores)
    assert scores.dtype == np.float64
    assert reduction.name == name
    assert reduction.finish(stats[:0], **CONTEXT).shape[0] == 0


@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_company_in_the_batch_changes_nothing(name: str) -> None:
    reduction = _reduction(name)
    values, mask, evidence = _windows(reduction)
    whole = reduction.partial(values, mask, evidence)
    for b in range(2):
        alone = _part(evidence, slice(b, b + 1))
        torch.testing.assert_close(reduction.partial(values[b : b + 1], mask[b : b + 1], alone), whole[b : b + 1])


@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_empty_mask_scores_zero(name: str) -> None:
    reduction = _reduction(name)
    values, mask, evidence = _windows(reduction)
    scores = reduction.finish(reduction.partial(values, torch.zeros_like(mask), evidence), **CONTEXT)
    # a region without a target, or without a boundary, has no score; all others have the lowest
    assert np.isnan(scores).all() if name in {"target", "boundary"} else not scores.any()


@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_what_lies_outside_the_region_does_not_count(name: str) -> None:
    reduction = _reduction(name)
    values, mask, evidence = _windows(reduction)
    outside = ~mask.unsqueeze(1) if reduction.per_class else ~mask
    spoiled = torch.where(outside, torch.nan, values)
    assert torch.equal(reduction.partial(spoiled, mask, evidence), reduction.partial(values, mask, evidence))


def test_parameters_and_defaults() -> None:
    assert make_reduction("localized", {}, (2, 1)) == Localized(3.0, (2.0, 1.0), 0.1)
    former = {"dilation_mm": 5, "likely_above": None}
    assert make_reduction("localized", former, (2, 1)) == Localized(5.0, (2.0, 1.0))
    former = {"reduce": "mean", "empty_sets": "zero", "foreground": "all"}
    assert make_reduction("target", former, (1, 1)) == Target(0.2, True, True, False)
    assert make_reduction("target", {"passes": 3}, (1, 1)) == Target(0.2)
    assert make_reduction("target", {"target_threshold": 0.3}, (1, 1)) == Target(0.3)
    assert make_reduction("boundary", {}, (1, 1)) == Boundary(0.1)
    assert make_reduction("boundary", {"boundary_width": 0.2}, (1, 1)) == Boundary(0.2)


def test_mean_is_numpys() -> None:
    values, mask, evidence = _windows(Mean())
    expected = [values[b].double().numpy()[mask[b].numpy()].mean() for b in range(2)]
    np.testing.assert_allclose(Mean().finish(Mean().partial(values, mask, evidence)), expected, rtol=1e-14)


def test_class_means_are_the_means_of_the_classes() -> None:
    values, mask, evidence = _windows(ClassMeans())
    scores_N_C = ClassMeans().finish(ClassMeans().partial(values, mask, evidence))
    for c in range(3):
        expected = Mean().finish(Mean().partial(values[:, c], mask, evidence))
        np.testing.assert_allclose(scores_N_C[:, c], expected, rtol=1e-14)


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
    stats = ClassWeighted().partial(values, mask, Evidence(torch.zeros(1, 2, 2), ~mask, ~mask, torch.zeros(1, 2, 2)))
    score = ClassWeighted().finish(stats, annotated_voxels_C=np.array([1, 3]))
    assert score.tolist() == [pytest.approx(0.75 * 1.0 + 0.25 * 0.5)]


@pytest.mark.parametrize("dilation_mm", [0.0, 1.5, 3.0])
def test_localized_is_scipys_dilation(dilation_mm: float) -> None:
    reduction = Localized(dilation_mm, SPACING_MM)
    values, mask, evidence = _windows(reduction)
    scores = reduction.finish(reduction.partial(values, mask, evidence))
    for b in range(2):
        distance = distance_transform_edt(~evidence.roi_B_xyz[b].numpy(), sampling=SPACING_MM)
        near = (distance <= dilation_mm) & mask[b].numpy()
        assert 0 < near.sum() < mask[b].sum()
        assert scores[b] == pytest.approx(values[b].double().numpy()[near].mean(), rel=1e-12)


def test_localized_by_hand() -> None:
    values = torch.tensor([[[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]]])
    whole = torch.ones(1, 1, 6, dtype=torch.bool)
    evidence = _line(*[0.0] * 6, roi=(1,))
    reduction = Localized(2.0, (9.0, 1.0))
    assert reduction.partial(values, whole, evidence).tolist() == [[15.0, 4.0, 63.0, 6.0]]
    # foreground that the region does not own still makes its neighbourhood part of R
    right = torch.tensor([[[False, False, True, True, True, True]]])
    assert reduction.finish(reduction.partial(values, right, evidence)).tolist() == [6.0]


def test_localized_falls_back_only_where_the_whole_region_has_no_foreground() -> None:
    values = torch.tensor([[[1.0, 2.0, 6.0]]])
    mask = torch.ones(1, 1, 3, dtype=torch.bool)
    reduction = Localized(0.5, (1.0, 1.0))
    empty = reduction.partial(values, mask, _line(0, 0, 0))
    found = reduction.partial(values, mask, _line(0, 0, 0, roi=(2,)))
    assert reduction.finish(empty).tolist() == [3.0]
    # a window without foreground adds nothing to a region that has some elsewhere
    assert reduction.finish(empty + found).tolist() == [6.0]
    # a predicted place where the map is 0 is not an empty one
    zero = reduction.partial(torch.tensor([[[1.0, 2.0, 0.0]]]), mask, _line(0, 0, 0, roi=(2,)))
    assert reduction.finish(zero).tolist() == [0.0]


def test_localized_looks_at_the_classes_of_interest_only() -> None:
    values = torch.tensor([[[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]]])
    mask = torch.ones(1, 1, 6, dtype=torch.bool)
    reduction = Localized(1.0, (9.0, 1.0))
    both = reduction.partial(values, mask, _line(*[0.0] * 6, roi=(1,), other=(4,)))
    assert reduction.finish(both).tolist() == [pytest.approx((1 + 2 + 4) / 3)]
    # foreground of other classes does not keep a region without the classes of interest from falling back
    others = reduction.partial(values, mask, _line(*[0.0] * 6, other=(4,)))
    assert reduction.finish(others).tolist() == [63 / 6]


def test_predicted_voxels_by_hand() -> None:
    # four voxels of three channels; the third voxel's foreground is shared out, its most probable class is background
    mean = torch.tensor([[0.8, 0.1, 0.4, 0.1], [0.1, 0.6, 0.3, 0.3], [0.1, 0.3, 0.3, 0.6]]).reshape(1, 3, 1, 4)
    found = {channels: predicted_voxels(mean, True, channels).int().flatten().tolist() for channels in CHANNELS}
    assert found == {(): [0, 1, 0, 1], (1,): [0, 1, 0, 0], (2,): [0, 0, 0, 1], (1, 2): [0, 1, 0, 1], (0,): [1, 0, 1, 0]}
    # heads overlap: in the first voxel the first and the last say yes, 0.5 itself is no
    heads = torch.tensor([[0.8, 0.1, 0.5, 0.1], [0.1, 0.6, 0.3, 0.3], [0.9, 0.3, 0.3, 0.6]]).reshape(1, 3, 1, 4)
    found = {channels: predicted_voxels(heads, False, channels).int().flatten().tolist() for channels in CHANNELS}
    assert found == {(): [1, 1, 0, 1], (1,): [0, 1, 0, 0], (2,): [1, 0, 0, 1], (1, 2): [1, 1, 0, 1], (0,): [1, 0, 0, 0]}


def test_target_and_boundary_by_hand() -> None:
    values = torch.tensor([[[1.0, 2.0, 4.0, 8.0, 16.0]]])
    mask = torch.tensor([[[True, True, True, True, False]]])
    evidence = _line(0.1, 0.25, 0.45, 0.9, 0.5)
    target, boundary = Target(0.2), Boundary(0.1)
    assert target.finish(target.partial(values, mask, evidence)).tolist() == [14.0]
    assert boundary.finish(boundary.partial(values, mask, evidence)).tolist() == [4.0]
    wider = Boundary(0.3)
    assert wider.finish(wider.partial(values, mask, evidence)).tolist() == [6.0]
    # sums and not means: twice the window is twice the score
    twice = 2 * target.partial(values, mask, evidence)
    assert target.finish(twice).tolist() == [28.0]


def test_the_thresholds_themselves_are_out() -> None:
    values, mask = torch.ones(1, 1, 2), torch.ones(1, 1, 2, dtype=torch.bool)
    assert Target(0.25).partial(values, mask, _line(0.25, 0.5)).tolist() == [[1.0, 1.0]]
    assert Boundary(0.25).partial(values, mask, _line(0.25, 0.75)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("kind, threshold", [(Target, 0.2), (Boundary, 0.1)])
@pytest.mark.parametrize("average", [False, True])
def test_an_empty_set_has_no_score(kind: type[Target], threshold: float, average: bool) -> None:
    values, mask = torch.ones(1, 1, 2), torch.ones(1, 1, 2, dtype=torch.bool)
    empty = _line(0.1, 0.1)
    for empty_is_zero in (False, True):
        reduction = kind(threshold, average, empty_is_zero)
        np.testing.assert_equal(
            reduction.finish(reduction.partial(values, mask, empty)), [0.0 if empty_is_zero else np.nan]
        )
        # a map that diverged is not taken for an empty set
        broken = reduction.finish(reduction.partial(values * torch.nan, mask, _line(0.5, 0.5)))
        assert np.isinf(broken).all()


def test_the_mean_over_a_set_does_not_grow_with_it() -> None:
    values, mask = torch.tensor([[[1.0, 2.0, 6.0]]]), torch.ones(1, 1, 3, dtype=torch.bool)
    evidence = _line(0.1, 0.5, 0.9)
    reduction = Target(0.2, average=True)
    partial = reduction.partial(values, mask, evidence)
    assert reduction.finish(partial).tolist() == reduction.finish(2 * partial).tolist() == [4.0]
    assert Target(0.2).finish(partial).tolist() == [8.0]


def test_target_and_boundary_look_at_the_classes_of_interest() -> None:
    """A core inside a whole: the boundary between them is invisible in the probability of all foreground."""
    mean = torch.tensor([0.02, 0.49, 0.49]).reshape(1, 3, 1, 1)
    values, mask = torch.ones(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool)
    evidence = evidence_of(mean.unsqueeze(0), True, (2,))
    for kind, threshold, inside in ((Boundary, 0.1, 1.0), (Target, 0.6, np.nan)):
        of_core, of_all = kind(threshold), kind(threshold, classes_of_interest=False)
        np.testing.assert_equal(of_core.finish(of_core.partial(values, mask, evidence)), [inside])
        expected = np.nan if kind is Boundary else 1.0
        np.testing.assert_equal(of_all.finish(of_all.partial(values, mask, evidence)), [expected])
    heads = evidence_of(mean.unsqueeze(0), False, (1, 2))
    assert heads.roi_probability_B_xyz.item() == pytest.approx(0.49)


def test_a_region_that_the_model_misses_is_not_ranked_last() -> None:
    """One that is certain of most voxels and doubts a few, without any above the threshold."""
    reduction, mask = Localized(0.0, (1.0, 1.0), 0.1), torch.ones(1, 1, 8, dtype=torch.bool)
    values = torch.tensor([[[0.3, 0.2, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001]]])
    missed = reduction.partial(values, mask, _line(0.06, 0.04, *[1e-4] * 6))
    # the first threshold that any voxel exceeds is 0.05
    assert reduction.finish(missed).tolist() == [pytest.approx(0.3)]
    found = reduction.partial(values, mask, _line(0.02, 0.55, *[1e-4] * 6))
    assert reduction.finish(found).tolist() == [pytest.approx(0.2)]
    # a window with likely foreground decides for the whole region
    assert reduction.finish(missed + found).tolist() == [pytest.approx(0.2)]
    certain = reduction.partial(values, mask, _line(*[1e-9] * 8))
    assert reduction.finish(certain).tolist() == [pytest.approx(values.double().mean().item())]


@pytest.mark.parametrize("largest", [0.099, 0.05, 0.01, 1e-3, 2e-5])
def test_the_set_of_a_missed_region_holds_at_least_half_of_its_largest_probability(largest: float) -> None:
    p = torch.tensor([largest, 0.7 * largest, 0.49 * largest, 0.2 * largest])
    values, mask = p.reshape(1, 1, -1).clone(), torch.ones(1, 1, 4, dtype=torch.bool)
    reduction = Localized(3.0, (1.0, 1.0), 0.1)
    score = reduction.finish(reduction.partial(values, mask, _line(*p.tolist())))[0]
    assert 0.5 * largest < score <= largest * (1 + 1e-6)
