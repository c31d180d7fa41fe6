from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy

from nnunet_al.scoring import maps
from nnunet_al.strategies.kinds import loaded
from nnunet_al.strategies.metrics import METRIC_ALIASES

from .voxel_maps import MAPS

LN2 = math.log(2.0)


def _softmax_samples(passes: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(2 * torch.randn(passes, 2, 4, 3, 5, 6, generator=generator, dtype=torch.float64), 2).to(dtype)


def _samples(*rows: tuple[float, ...]) -> torch.Tensor:
    """T rows of C probabilities of one voxel -> (T, 1, C, 1, 1)."""
    return torch.tensor(rows, dtype=torch.float32).reshape(len(rows), 1, -1, 1, 1)


def _value(name: str, *rows: tuple[float, ...], exclusive: bool = True) -> list[float]:
    return loaded(MAPS[name].function)(_samples(*rows), exclusive).flatten().tolist()


def test_registry_is_complete_and_honest() -> None:
    needed = {"entropy", "least_confidence", "margin", "mc_dropout", "mean_std", "bald", "jsd"}
    per_class = {"class_variance", "class_entropy"}
    assert needed | per_class <= set(MAPS)
    assert {name for name, metric in MAPS.items() if metric.per_class} == per_class
    assert all(METRIC_ALIASES.get(name, name) == loaded(metric.function).__name__ for name, metric in MAPS.items())
    assert MAPS["bald"].function is MAPS["jsd"].function
    sampled = {name for name, metric in MAPS.items() if metric.needs_samples}
    assert sampled == {"mc_dropout", "mean_std", "bald", "jsd", "class_variance"}


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("name", list(MAPS))
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_shapes_and_types(name: str, exclusive: bool, dtype: torch.dtype) -> None:
    metric = MAPS[name]
    out = loaded(metric.function)(_softmax_samples(dtype=dtype), exclusive)
    channels = (3 if exclusive else 4,) if metric.per_class else ()
    assert out.shape == (2, *channels, 3, 5, 6)
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()
    assert (out >= 0).all()


def test_bald_known_answers() -> None:
    assert _value("bald", (1, 0), (0, 1)) == [pytest.approx(LN2)]
    assert _value("bald", *[(0.5, 0.5)] * 8) == [0.0]  # a half-sum of the entropies would say ln 2
    assert _value("bald", (0.2, 0.8)) == [0.0]
    assert _value("bald", (1, 0), (0, 1), exclusive=False) == [pytest.approx(2 * LN2)]


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("passes", [1, 2, 3, 7, 8, 10])
@pytest.mark.parametrize("name", ["bald", "jsd", "mean_std", "class_variance"])
def test_identical_samples_disagree_by_exactly_nothing(name: str, passes: int, exclusive: bool) -> None:
    same = _softmax_samples(1, dtype=torch.float32).expand(passes, -1, -1, -1, -1, -1)
    assert torch.count_nonzero(loaded(MAPS[name].function)(same, exclusive)) == 0


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("name", ["least_confidence", "margin", "entropy", "mc_dropout", "class_entropy"])
def test_the_mean_of_identical_samples_is_the_sample(name: str, exclusive: bool) -> None:
    once = _softmax_samples(1, dtype=torch.float32)
    function = loaded(MAPS[name].function)
    assert torch.equal(function(once.expand(7, -1, -1, -1, -1, -1), exclusive), function(once, exclusive))


def test_bald_is_never_negative_nor_lost_at_certainty() -> None:
    generator = torch.Generator().manual_seed(0)
    close = torch.rand(7, 1, 1, 40, 40, generator=generator) * 1e-7
    nearly_sure = torch.cat([1 - close, close], 2)
    for exclusive in (True, False):
        values = maps.bald(nearly_sure, exclusive)
        assert torch.isfinite(values).all()
        assert (values >= 0).all()


def test_bald_is_the_jensen_shannon_divergence() -> None:
    probs = _softmax_samples(2)
    ours = loaded(MAPS["jsd"].function)(probs, True)
    theirs = jensenshannon(probs[0].numpy(), probs[1].numpy(), axis=1) ** 2
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["entropy", "mc_dropout"])
def test_entropy_is_scipys(name: str) -> None:
    probs = _softmax_samples()
    ours = loaded(MAPS[name].function)(probs, True).numpy()
    np.testing.assert_allclose(ours, scipy_entropy(probs.mean(0).numpy(), axis=1), rtol=1e-5)
    binary = sum(scipy_entropy(np.stack([head, 1 - head]), axis=0) for head in np.moveaxis(probs.mean(0).numpy(), 1, 0))
    np.testing.assert_allclose(loaded(MAPS[name].function)(probs, False).numpy(), binary, rtol=1e-5)


def test_entropy_known_answers() -> None:
    assert _value("entropy", (1, 0, 0)) == [0.0]
    assert _value("entropy", (0.25,) * 4) == [pytest.approx(math.log(4))]
    assert _value("mc_dropout", (1, 0), (0, 1)) == [pytest.approx(LN2)]


def test_margin_and_confidence_are_over_classes() -> None:
    assert _value("margin", (0.5, 0.3, 0.2)) == [pytest.approx(0.8)]
    assert _value("margin", (0.5, 0.5, 0.0)) == [pytest.approx(1.0)]
    assert _value("margin", (1, 0, 0), (0, 1, 0)) == [pytest.approx(1.0)]
    assert _value("least_confidence", (0.5, 0.3, 0.2)) == [pytest.approx(0.5)]
    assert _value("margin", (0.9, 0.5), exclusive=False) == [pytest.approx((0.2 + 1.0) / 2)]
    assert _value("least_confidence", (0.9, 0.5), exclusive=False) == [pytest.approx((0.1 + 0.5) / 2)]


@pytest.mark.parametrize(
    "row,least,margin",
    [
        ((0.7, 0.3), 0.3, 0.6),
        ((0.5, 0.5), 0.5, 1.0),
        ((0.2, 0.7, 0.1), 0.3, 0.5),
        ((0.4, 0.1, 0.3, 0.2), 0.6, 0.9),
        ((0.05, 0.6, 0.05, 0.25, 0.05), 0.4, 0.65),
        ((0.2,) * 5, 0.8, 1.0),
    ],
)
def test_confidence_and_margin_by_hand(row: tuple[float, ...], least: float, margin: float) -> None:
    assert _value("least_confidence", row) == [pytest.approx(least)]
    assert _value("margin", row) == [pytest.approx(margin)]


def test_margin_is_not_over_samples() -> None:
    # of each class the largest minus the second largest sample would be 0, so that every voxel would score 1
    assert _value("margin", *[(0.9, 0.1)] * 3) == [pytest.approx(0.2)]
    assert _value("margin", (0.9, 0.1), (0.7, 0.3)) == [pytest.approx(0.4)]


def test_one_class_networks() -> None:
    # one head, p̄ = 0.75, means the same as two exclusive classes (0.25, 0.75)
    heads, classes = ((0.6,), (0.9,)), ((0.4, 0.6), (0.1, 0.9))
    for name in ("entropy", "mc_dropout", "bald", "least_confidence", "margin", "mean_std", "class_variance"):
        assert _value(name, *heads, exclusive=False) == pytest.approx(_value(name, *classes)), name
    assert _value("class_entropy", *heads, exclusive=False) == pytest.approx(_value("class_entropy", *classes))
    assert _value("margin", *heads, exclusive=False) == [pytest.approx(0.5)]
    assert _value("class_variance", *heads, exclusive=False) == [pytest.approx(0.0225)]


def test_class_entropy_known_answers() -> None:
    # H(0.5, 0.25, 0.25) = 1.5 ln 2; the background's share of it goes to no class
    assert _value("class_entropy", (0.5, 0.25, 0.25)) == [pytest.approx(0.375 * LN2)] * 2
    assert _value("class_entropy", (1, 0, 0), (0, 1, 0)) == [pytest.approx(0.5 * LN2), 0.0]  # of the mean
    assert _value("class_entropy", (0, 1, 0)) == [0.0, 0.0]
    # heads: ln 2 of the first and 0 of the second make the one H of both
    assert _value("class_entropy", (0.5, 1.0), exclusive=False) == [pytest.approx(0.5 * LN2), pytest.approx(LN2)]


def test_class_entropies_add_up_to_the_foregrounds_part_of_the_entropy() -> None:
    probs = _softmax_samples()
    expected = scipy_entropy(probs.mean(0).numpy(), axis=1) * maps.foreground_probability(probs).numpy()
    np.testing.assert_allclose(maps.class_entropy(probs).sum(1).numpy(), expected, rtol=1e-5)


def test_mean_std_is_a_standard_deviation() -> None:
    assert _value("mean_std", (1, 0), (0, 1)) == [pytest.approx(0.5)]  # the variance is 0.25
    assert _value("mean_std", (0.7, 0.3)) == [0.0]
    assert _value("mean_std", (0.9, 0.1), (0.5, 0.5)) == [pytest.approx(0.2)]  # the variance is 0.04
    probs = _softmax_samples()
    np.testing.assert_allclose(maps.mean_std(probs).numpy(), probs.numpy().std(0).mean(1), rtol=1e-5)


def test_class_variance_leaves_the_background_out() -> None:
    assert _value("class_variance", (1, 0, 0), (0, 1, 0)) == [pytest.approx(0.25), 0.0]
    assert _value("class_variance", (1, 0, 0), (0, 1, 0), exclusive=False) == [pytest.approx(0.25)] * 2 + [0.0]
    probs = _softmax_samples()
    np.testing.assert_allclose(maps.class_variance(probs).numpy(), probs.numpy().var(0)[:, 1:], rtol=1e-5)


def test_foreground_probability() -> None:
    rows = _samples((0.6, 0.3, 0.1), (0.2, 0.3, 0.5))
    assert maps.foreground_probability(rows).item() == pytest.approx(0.6)
    assert maps.foreground_probability(rows, exclusive=False).item() == pytest.approx(0.4)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("name", list(MAPS))
def test_order_of_samples_and_batches_does_not_matter(name: str, exclusive: bool) -> None:
    probs = _softmax_samples()
    function = loaded(MAPS[name].function)
    whole = function(probs, exclusive)
    torch.testing.assert_close(function(probs.flip(0), exclusive), whole)
    single = torch.cat([function(probs[:, b : b + 1], exclusive) for b in range(2)])
    torch.testing.assert_close(single, whole)
