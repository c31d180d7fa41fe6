"""Thresholds at quantiles of the pool: the sets, their sums, and batches that no empty set decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_al.scoring.foreground_sets import AtQuantile, Boundary, Target
from nnunet_al.scoring.maps import entropy
from nnunet_al.scoring.reductions import Mean, Reduction, make_reduction
from nnunet_al.scoring.region_scores import evidence_of
from nnunet_al.scoring.region_sums import Evidence
from nnunet_al.selection.selective import selective_union

RULES = {"target": (Target, "target_threshold"), "boundary": (Boundary, "boundary_width")}


def quantile(name: str, q: str, **parameters: str) -> AtQuantile:
    rule = make_reduction(name, {RULES[name][1]: q, **parameters}, (1.0, 1.0))
    assert isinstance(rule, AtQuantile)
    return rule


def evidence(p_N_x: torch.Tensor) -> Evidence:
    return Evidence(p_N_x, p_N_x > 0.5, p_N_x > 0.5, p_N_x)


def probabilities(kind: str, regions: int = 40, seed: int = 0) -> torch.Tensor:
    """Foreground probabilities (N, 16, 16) as of a network that was not trained, or of one that was."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(regions, 16, 16, generator=rng)
    if kind == "untrained":  # of two foreground classes, all voxels about equal
        return 2 / 3 + 0.01 * noise
    logits = noise - 12  # a few regions hold a structure of 16 voxels
    logits[: regions // 5, 4:8, 4:8] += 24
    logits[: regions // 5, 4:8, 3] += 12
    return torch.sigmoid(logits)


@pytest.mark.parametrize("name", ["target", "boundary"])
def test_thresholds_that_a_quantile_is_rounded_to_ascend_and_are_exact(name):
    grid = RULES[name][0].grid
    assert grid == sorted(set(grid))
    assert torch.tensor(grid).tolist() == grid


def test_by_hand():
    p_N_x = torch.tensor([[0.125, 0.25, 0.5, 0.75], [0.0, 0.0625, 0.0625, 0.9375]])
    values_N_x, mask_N_x = torch.arange(1.0, 9).reshape(2, 4), torch.ones(2, 4, dtype=torch.bool)
    rule = quantile("target", "q.5")  # of 8 voxels 4 are at most 0.125: the largest step below 0.25 is 31/128
    stats = rule.partial(values_N_x, mask_N_x, evidence(p_N_x))
    assert rule.finish(stats).tolist() == [2 + 3 + 4, 8]
    assert rule.line(stats) == "4 voxels with a foreground probability above 0.2422 (quantile 0.5 of 8)"
    rule = quantile("boundary", "q0.25", reduce="mean")  # distances 0 and twice 0.25; strictly below the next step
    stats = rule.partial(values_N_x, mask_N_x, evidence(p_N_x))
    np.testing.assert_equal(rule.finish(stats), [(2 + 3 + 4) / 3, np.nan])
    assert rule.line(stats) == "3 voxels with a foreground probability within 0.2578 of 0.5 (quantile 0.25 of 8)"


@pytest.mark.parametrize("kind", ["untrained", "trained"])
@pytest.mark.parametrize("name, q", [("target", 0.9), ("target", 0.5), ("boundary", 0.1), ("boundary", 0.02)])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_it_is_the_fixed_threshold_next_to_numpys_quantile(kind, name, q, reduce):
    p_N_xy = probabilities(kind)
    values_N_xy, mask_N_xy = torch.rand_like(p_N_xy), torch.rand_like(p_N_xy) > 0.3
    rule = quantile(name, f"q{q}", reduce=reduce)
    stats = rule.partial(values_N_xy, mask_N_xy, evidence(p_N_xy))
    grid = np.array(rule.over.grid)
    compared_V = (p_N_xy if name == "target" else (p_N_xy - 0.5).abs())[mask_N_xy].double().numpy()
    exact = np.quantile(compared_V, q, method="inverted_cdf" if name == "boundary" else "higher")
    # no number of the grid lies between the quantile and the threshold
    threshold = grid[grid < exact].max(initial=0) if name == "target" else grid[grid > exact].min(initial=0.5)
    fixed: Reduction = make_reduction(name, {RULES[name][1]: float(threshold), "reduce": reduce}, (1, 1))
    expected_N = fixed.finish(fixed.partial(values_N_xy, mask_N_xy, evidence(p_N_xy)))
    np.testing.assert_allclose(rule.finish(stats), expected_N, rtol=1e-12)
    share = (compared_V > threshold).mean() if name == "target" else (compared_V < threshold).mean()
    assert share >= (1 - q if name == "target" else q) - 1e-9
    assert f"{threshold:.4g}" in rule.line(stats)


@pytest.mark.parametrize("name", ["target", "boundary"])
def test_shards_and_windows_in_any_order_give_the_same(name):
    p_N_xy = probabilities("trained")
    rule, values_N_xy, mask_N_xy = quantile(name, "q0.9"), entropy(two_classes(p_N_xy)), torch.ones_like(p_N_xy) > 0
    whole = rule.partial(values_N_xy, mask_N_xy, evidence(p_N_xy))
    order = np.random.default_rng(0).permutation(len(p_N_xy))
    alone = [rule.partial(values_N_xy[[n]], mask_N_xy[[n]], evidence(p_N_xy[[n]])) for n in order]
    assert torch.equal(torch.cat(alone)[np.argsort(order)], whole)
    np.testing.assert_array_equal(rule.finish(torch.cat(alone))[np.argsort(order)], rule.finish(whole))
    assert rule.line(torch.cat(alone)) == rule.line(whole)


def two_classes(p_N_xy: torch.Tensor) -> torch.Tensor:
    return torch.stack([1 - p_N_xy, p_N_xy], dim=1).unsqueeze(0)


def decided_by_empty_sets(kind: str, parameters: dict[str, object], budget: int = 10) -> int:
    """How many regions of a batch of `selective` have an empty target and an empty boundary, or won as the other's."""
    probs = two_classes(probabilities(kind))
    found, mask = evidence_of(probs), torch.ones(probs.shape[1], *probs.shape[3:], dtype=torch.bool)
    rules = [make_reduction(name, parameters, (1, 1)) for name in RULES]
    scores = [rule.finish(rule.partial(entropy(probs), mask, found)) for rule in (*rules, Mean())]
    names = [f"{n:02d}" for n in range(len(mask))]
    chosen = selective_union(scores[0], scores[1], scores[2], names, budget).indices_B
    half = [set(chosen[turn::2].tolist()) for turn in (0, 1)]
    return sum(bool(np.isnan(scores[turn][index])) for turn in (0, 1) for index in half[turn])


@pytest.mark.parametrize("kind", ["untrained", "trained"])
def test_no_region_comes_by_an_empty_set(kind):
    assert decided_by_empty_sets(kind, {"target_threshold": "q0.9", "boundary_width": "q0.1"}) == 0
    # with the paper's thresholds the boundary of one network is empty everywhere, the structures of the other are few
    assert decided_by_empty_sets(kind, {}) > 0


def test_all_voxels_alike_and_none_at_all():
    p_N_x, mask_N_x = torch.full((3, 4), 0.3), torch.ones(3, 4, dtype=torch.bool)
    for name in RULES:
        rule = quantile(name, "q0.5")
        stats = rule.partial(torch.ones(3, 4), mask_N_x, evidence(p_N_x))
        assert rule.finish(stats).tolist() == [4, 4, 4]
        assert np.isnan(rule.finish(rule.partial(torch.ones(3, 4), ~mask_N_x, evidence(p_N_x)))).all()
        assert rule.finish(stats[:0]).shape == (0,)
    certain = quantile("target", "q0.5")
    stats = certain.partial(torch.ones(3, 4), mask_N_x, evidence(torch.zeros(3, 4)))
    assert np.isnan(certain.finish(stats)).all(), "p > 0 nowhere"


@pytest.mark.parametrize("name, score", [("target", np.inf), ("boundary", 1.0)])
def test_a_value_that_is_not_a_number_counts_where_it_lies(name, score):
    rule = quantile(name, "q0.5")
    values, p_N_x = torch.tensor([[1.0, torch.nan]]), torch.tensor([[0.5, 0.9]])
    stats = rule.partial(values, torch.ones(1, 2, dtype=torch.bool), evidence(p_N_x))
    assert rule.finish(stats).tolist() == [score]
