"""Whatever a recipe computes over the pool, it does not depend on how the work is cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from strategy_combinations import combinations

from nnunet_al.errors import StrategyError
from nnunet_al.nnunet import pool_scoring
from nnunet_al.nnunet.pool_scoring import Measure, PoolStatistics, Scorer, merge
from nnunet_al.nnunet.window_stream import Pool
from nnunet_al.scoring.augmentation import AugmentationSampler
from nnunet_al.scoring.dropout import insert_dropout
from nnunet_al.scoring.learning_loss import LossModule, LossSampler, stage_channels
from nnunet_al.scoring.reductions import Localized, make_reduction
from nnunet_al.scoring.region_scores import evidence_of
from nnunet_al.scoring.samplers import DeterministicSampler, DropoutSampler, EnsembleSampler, Samples
from nnunet_al.strategies.registry import voxel_map

from .pools import PATCHES, make_network, make_pool

MEASURES = sorted({(recipe.posterior, *measure) for recipe in combinations() for measure in recipe.measures().values()})
# of each posterior, metric and reduction, the first that has it
SOME = sorted(
    {next(one for one in MEASURES if part == one[index]) for index in range(3) for part in {m[index] for m in MEASURES}}
)
NETWORKS = {"three classes": (3, True), "one class": (2, True), "heads": (2, False), "nothing predicted": (3, True)}


def make_sampler(posterior: str, metric: str, dims: str, kind: str):
    classes, exclusive = NETWORKS[kind]
    background = 1e3 if kind == "nothing predicted" else 0.0
    network = make_network(dims, classes, background=background)
    rng = np.random.default_rng(5)
    if metric == "learning_loss":
        torch.manual_seed(1)
        return LossSampler(network, LossModule(stage_channels(network)).eval(), exclusive)
    if posterior in {"mc_dropout", "elements"}:
        insert_dropout(network, of="elements" if posterior == "elements" else "channels")
        return DropoutSampler(network, exclusive, 3, rng)
    if posterior == "tta":
        return AugmentationSampler(network, exclusive, 3, rng, [1.0] * len(PATCHES[dims]))
    if posterior == "ensemble":
        members = [network, make_network(dims, classes, seed=1, background=background)]
        return EnsembleSampler(members, exclusive)
    return DeterministicSampler(network, exclusive)


def make_scorer(
    posterior: str, metric: str, reduction: str, dims: str, kind: str, chunk: int = 64, **parameters: str
) -> Scorer:
    measure = Measure(voxel_map(metric), make_reduction(reduction, parameters, [1.0] * len(PATCHES[dims])))
    sampler = make_sampler(posterior, metric, dims, kind)
    return Scorer(sampler, NETWORKS[kind][1], {"scores": measure}, torch.device("cpu"), chunk, 1)


def finish(scorer: Scorer, found: PoolStatistics, classes: int) -> np.ndarray:
    return scorer.measures["scores"].reduction.finish(found.stats["scores"], annotated_voxels_C=[3, 0, 5][:classes])


CASES = [(*measure, "three classes") for measure in MEASURES]
CASES += [("elements", "bald", "mean", "three classes")]
CASES += [(*measure, kind) for measure in SOME for kind in NETWORKS if kind != "three classes"]


@pytest.mark.parametrize("posterior, metric, reduction, kind", CASES)
def test_chunked_is_whole_and_sharded_is_whole(posterior, metric, reduction, kind):
    pool, numbers = make_pool("2d")
    of = (posterior, metric, reduction, "2d", kind)
    whole = make_scorer(*of).run(pool, numbers)
    scores = finish(make_scorer(*of), whole, NETWORKS[kind][0] - NETWORKS[kind][1])
    assert len(scores) == len(whole.numbers_N) == len(pool.regions)
    without_set = np.isnan(scores) & (reduction in {"target", "boundary"})
    assert (np.isfinite(scores) | without_set).all()

    chunked = make_scorer(*of, chunk=1).run(pool, {case: numbers[case] for case in sorted(numbers, reverse=True)})
    parts = [make_scorer(*of).run(pool, {case: numbers[case]}) for case in ("c", "a", "b")]
    nothing = PoolStatistics.from_arrays(make_scorer(*of).run(pool, {}).to_arrays())
    for again in (chunked, merge([*parts, nothing]), PoolStatistics.from_arrays(whole.to_arrays())):
        np.testing.assert_array_equal(again.numbers_N, whole.numbers_N)
        np.testing.assert_array_equal(again.foreground_N, whole.foreground_N)
        np.testing.assert_array_equal(again.stats["scores"], whole.stats["scores"])
    if kind == "nothing predicted":
        assert not whole.foreground_N.any()
    else:
        assert whole.foreground_N.any()
    if kind != "nothing predicted" and metric != "learning_loss":
        assert len(np.unique(scores)) > 1, "a score that does not see the image"


@pytest.mark.parametrize("reduction, parameter", [("target", "target_threshold"), ("boundary", "boundary_width")])
def test_a_quantile_of_the_pool_is_the_same_from_chunks_and_shards(reduction, parameter):
    pool, numbers = make_pool("2d")

    def run(cases: str, chunk: int = 64) -> PoolStatistics:
        scorer = make_scorer("mc_dropout", "bald", reduction, "2d", "three classes", chunk, **{parameter: "q0.9"})
        return scorer.run(pool, {case: numbers[case] for case in cases})

    rule = make_reduction(reduction, {parameter: "q0.9"}, (1.0, 1.0))
    whole = run("abc").stats["scores"]
    scores = rule.finish(whole)
    assert len(np.unique(scores[np.isfinite(scores)])) > 1
    for found in (run("cab", chunk=1), merge([run(case) for case in "cab"])):
        np.testing.assert_array_equal(found.stats["scores"], whole)
        np.testing.assert_array_equal(rule.finish(found.stats["scores"]), scores)


def test_noise_in_the_unit_of_each_image_is_the_same_from_chunks_and_shards():
    plain, numbers = make_pool("2d")
    pool = replace(plain, ranges=True)
    (chunk,) = pool.chunks(numbers, 1000, 1)
    for number, range_C in zip(chunk.numbers, chunk.range_B_C, strict=True):
        image_C_xyz = pool.read_image(pool.regions[number].case)
        expected = [np.percentile(channel, 99) - np.percentile(channel, 1) for channel in image_C_xyz]
        np.testing.assert_allclose(range_C, expected, rtol=1e-6)

    def run(pool: Pool, cases: str, chunk: int = 64) -> PoolStatistics:
        scorer = make_scorer("tta", "bald", "mean", "2d", "three classes", chunk)
        return scorer.run(pool, {case: numbers[case] for case in cases})

    seen: list[torch.Tensor] = []
    brighter = replace(pool, read_image=lambda case: pool.read_image(case) * (50 if case == "c" else 1))

    def network(data_B_C_xyz: torch.Tensor) -> torch.Tensor:
        seen.append(data_B_C_xyz)
        return data_B_C_xyz

    for case, factor in (("a", 1), ("c", 50)):
        seen.clear()
        module = torch.nn.Module()
        module.forward = network
        sampler = AugmentationSampler(module, True, 2, np.random.default_rng(0), (1.0, 1.0), 1e-4, 0.0, True)
        Scorer(sampler, True, {}, torch.device("cpu"), 64, 1).run(brighter, {case: numbers[case]})
        as_it_is, noisy = seen
        image_C_xyz = pool.read_image(case) * factor
        unit = np.percentile(image_C_xyz[1], 99) - np.percentile(image_C_xyz[1], 1)
        assert (noisy - as_it_is)[0, 1].std().item() == pytest.approx(0.01 * unit, rel=0.1)

    whole = run(pool, "abc").stats["scores"]
    assert not np.array_equal(whole, run(plain, "abc").stats["scores"]), "the unit of the preprocessed image"
    for again in (run(pool, "cab", chunk=1), merge([run(pool, case) for case in "bca"])):
        np.testing.assert_array_equal(again.stats["scores"], whole)


@pytest.mark.parametrize("posterior, metric, reduction", SOME)
def test_the_same_in_3d(posterior, metric, reduction):
    pool, numbers = make_pool("3d", "patch")
    of = (posterior, metric, reduction, "3d", "three classes")
    some = {case: several[:3] for case, several in numbers.items()}
    whole = make_scorer(*of).run(pool, some)
    parts = [make_scorer(*of, chunk=1).run(pool, {case: several}) for case, several in some.items()]
    np.testing.assert_array_equal(merge(parts[::-1]).stats["scores"], whole.stats["scores"])
    assert np.isfinite(finish(make_scorer(*of), whole, 2)).all()


@pytest.mark.parametrize("unit, chunk, reduction", [("case", 64, "mean"), ("slice", 3, "boundary")])
def test_stopped_between_any_two_batches_and_continued_is_whole(unit, chunk, reduction, monkeypatch):
    monkeypatch.setattr(pool_scoring, "micro_batch_size", lambda patch_size: 5)
    pool, numbers = make_pool("2d", unit)
    numbers = {case: numbers[case] for case in ("b", "c", "a")}  # numbers need not ascend
    order = [number for some in numbers.values() for number in some]
    scorer = make_scorer("mc_dropout", "bald", reduction, "2d", "three classes", chunk)
    seen: list[int] = []
    whole = scorer.run(pool, numbers, lambda so_far: seen.append(len(so_far().numbers_N)))
    assert len(seen) == 12, "59 windows"
    assert seen[0] == 0
    assert seen == sorted(seen)
    assert seen[-1] >= len(order) - 4
    for stop in range(0, len(seen), 3):
        kept: list[PoolStatistics] = []

        def keep(so_far, kept=kept, stop=stop):
            kept.append(so_far())
            if len(kept) > stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            scorer.run(pool, numbers, keep)
        assert kept[-1].numbers_N.tolist() == sorted(order[: seen[stop]])
        known = set(order[: seen[stop]])
        left = {case: [number for number in some if number not in known] for case, some in numbers.items()}
        merged = merge([kept[-1], scorer.run(pool, left)])
        np.testing.assert_array_equal(merged.numbers_N, whole.numbers_N)
        np.testing.assert_array_equal(merged.foreground_N, whole.foreground_N)
        np.testing.assert_array_equal(merged.stats["scores"], whole.stats["scores"])


class CornerSampler:
    """Sees only the upper half of each window."""

    def __call__(self, data_B_C_xyz: torch.Tensor) -> Samples:
        probs = torch.full((1, len(data_B_C_xyz), 2, *data_B_C_xyz.shape[2:]), 0.5)
        visible = torch.zeros(len(data_B_C_xyz), *data_B_C_xyz.shape[2:], dtype=torch.bool)
        visible[:, :8] = True
        return Samples(probs, visible)


def test_what_is_out_of_view_is_left_out_unless_nothing_would_be_left():
    pool, numbers = make_pool("2d", "slice")
    measure = Measure(voxel_map("entropy"), make_reduction("mean", {}, (1.0, 1.0)))
    scorer = Scorer(CornerSampler(), True, {"scores": measure}, torch.device("cpu"), 64, 1)
    found = scorer.run(pool, {"c": numbers["c"][:1]})
    assert found.stats["scores"][0, 1] == 16 * 8, "a slice of 16 x 16 in one window: half of it is counted"
    # in case a the cells of the lower windows lie in their lower halves, of which nothing is visible: all of them count
    found = scorer.run(pool, {"a": numbers["a"][:1]})
    assert 20 * 18 / 2 <= found.stats["scores"][0, 1] < 20 * 18
    np.testing.assert_allclose(scorer.measures["scores"].reduction.finish(found.stats["scores"]), np.log(2), rtol=1e-6)


class TwoClassSampler:
    """Predicts the first class (or head) in column 2 of each window, the second in column 9."""

    def __init__(self, exclusive: bool) -> None:
        self.exclusive = exclusive

    def __call__(self, data_B_C_xyz: torch.Tensor) -> Samples:
        sure, unsure = torch.zeros(2, 1, 3, *data_B_C_xyz.shape[2:])
        sure[:, 0], unsure[:, 0] = 1.0, 1.0
        for channel, column in ((1, 2), (2, 9)):
            sure[:, :, ..., column] = torch.eye(3)[channel].view(1, 3, 1)
            unsure[:, :, ..., column] = torch.tensor([0.1, 0.1, 0.1]).view(1, 3, 1)
            unsure[:, channel, ..., column] = 0.8
        probs = torch.stack([sure, unsure]).expand(2, len(data_B_C_xyz), *sure.shape[1:])
        return Samples(probs if self.exclusive else probs[:, :, 1:])


@pytest.mark.parametrize("exclusive", [True, False])
def test_localized_scores_only_what_lies_around_the_classes_of_interest(exclusive):
    pool, numbers = make_pool("2d", "slice")
    some = {"c": numbers["c"][:1]}  # a slice of 16 x 16 in one window
    column = torch.arange(16.0).expand(16, 16)
    measure = Measure(lambda probs, _: column.expand(probs.shape[1], 16, 16), Localized(1.0, (1.0, 1.0)))
    first = 1 if exclusive else 0
    found = {}
    for channels in ((), (first,), (first + 1,), (first, first + 1)):
        sampler = TwoClassSampler(exclusive)
        scorer = Scorer(sampler, exclusive, {"scores": measure}, torch.device("cpu"), 64, 1, roi_channels=channels)
        statistics = scorer.run(pool, some)
        assert statistics.foreground_N.tolist() == [2 * 16], "the count is of all foreground"
        found[tuple(channel - first for channel in channels)] = measure.reduction.finish(statistics.stats["scores"])[0]
    # columns 1 to 3 around the first, 8 to 10 around the second
    assert found == {(): 5.5, (0,): 2.0, (1,): 9.0, (0, 1): 5.5}


def test_padding_is_in_no_classes_of_interest():
    sampler, data = TwoClassSampler(True), torch.zeros(1, 1, 4, 16)
    inside = torch.zeros(1, 4, 16, dtype=torch.bool)
    inside[:, :2] = True
    probs = sampler(data).probs_T_B_C_xyz
    evidence = evidence_of(probs, True, (2,), inside)
    assert evidence.roi_B_xyz.nonzero().tolist() == [[0, 0, 9], [0, 1, 9]]
    assert evidence.predicted_B_xyz.sum() == 4
    evidence = evidence_of(probs, True, (), inside)
    assert torch.equal(evidence.roi_B_xyz, evidence.predicted_B_xyz)


def scored_by(voxels, reduction: str, exclusive: bool = True) -> PoolStatistics:
    pool, numbers = make_pool("2d", "slice")
    measure = Measure(voxels, make_reduction(reduction, {}, (1.0, 1.0)), name="theirs")
    scorer = Scorer(CornerSampler(), exclusive, {"scores": measure}, torch.device("cpu"), 64, 1)
    return scorer.run(pool, {"c": numbers["c"][:1]})


@pytest.mark.parametrize(
    "voxels, reduction, words",
    [
        (
            lambda probs, exclusive: probs[0],
            "mean",
            r"returned torch.float32 \(\d+, 2, 16, 16\) where .* \(\d+, 16, 16\)",
        ),
        (lambda probs, exclusive: probs.mean(), "mean", r"returned torch.float32 \(\) where"),
        (lambda probs, exclusive: probs[0, :, 0] > 0, "mean", "returned torch.bool .* a float tensor"),
        (lambda probs, exclusive: probs[0, :, 0].numpy(), "mean", "returned ndarray where"),
        (lambda probs, exclusive: None, "mean", "returned NoneType where"),
        (
            lambda probs, exclusive: probs[0, :, 0],
            "class_weighted",
            r"returned .* \(\d+, 16, 16\) where .* \(\d+, 1, 16, 16\)",
        ),
        (
            lambda probs, exclusive: probs[0],
            "class_weighted",
            r"returned .* \(\d+, 2, 16, 16\) where .* \(\d+, 1, 16, 16\)",
        ),
    ],
)
def test_a_map_that_returns_something_else_is_named(voxels, reduction, words):
    with pytest.raises(StrategyError, match=f"metric 'theirs' {words}") as caught:
        scored_by(voxels, reduction)
    assert "\n" not in str(caught.value)


def test_a_map_of_another_package_has_a_channel_for_each_foreground_class_or_head():
    assert scored_by(lambda probs, exclusive: probs[0, :, 1:], "class_weighted").stats["scores"].shape == (1, 2)
    heads = scored_by(lambda probs, exclusive: probs[0].double(), "class_weighted", exclusive=False)
    assert heads.stats["scores"].shape == (1, 3)
    assert np.isnan(scored_by(lambda probs, exclusive: probs[0, :, 0] * np.nan, "mean").stats["scores"][0, 0])
