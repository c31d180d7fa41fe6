from __future__ import annotations

import itertools

import numpy as np
import pytest

from nnunet_al.errors import NotEnoughMemoryError, SetupError, StrategyError
from nnunet_al.selection import flqmi_submodlib
from nnunet_al.selection.flqmi import flqmi_gain_order
from nnunet_al.selection.flqmi_streaming import sample_size, streaming_greedy
from nnunet_al.selection.flqmi_submodlib import submodlib_available

needs_submodlib = pytest.mark.skipif(not submodlib_available(), reason="submodlib has no wheel for this interpreter")


def objective(kernel_N_Q: np.ndarray, multiplicities_Q: np.ndarray, chosen, eta: float) -> float:
    """I(A; Q) written down as in the paper, with maxima that start at 0."""
    kernel_N_Q = kernel_N_Q.astype(np.float64)
    coverage = sum(
        times * max([0.0, *(kernel_N_Q[index, column] for index in chosen)])
        for column, times in enumerate(multiplicities_Q)
    )
    return float(coverage + eta * sum(max([0.0, *kernel_N_Q[index]]) for index in chosen))


def random_kernel(seed: int, count: int = 40, queries: int = 15, shift: float = 0.0) -> np.ndarray:
    return (np.random.default_rng(seed).random((count, queries)) - shift).astype(np.float32)


def naive(kernel, multiplicities, budget, **options):
    return flqmi_gain_order(kernel, multiplicities, budget, np.random.default_rng(0), greedy="naive", **options)


def plain_greedy(kernel_N_Q, weights_Q, budget, eta, candidates, rng):
    """Every gain at every step, in float64."""
    kernel_N_Q = kernel_N_Q.astype(np.float64)
    covered, remaining, found = np.zeros(kernel_N_Q.shape[1]), np.ones(len(kernel_N_Q), dtype=bool), []
    for _ in range(budget):
        pool = np.flatnonzero(remaining)
        if candidates is not None:
            pool = np.sort(rng.choice(pool, size=candidates, replace=False, shuffle=False))
        terms = weights_Q * np.maximum(kernel_N_Q[pool] - covered, 0)
        gains = terms.sum(axis=1) + eta * kernel_N_Q[pool].max(axis=1).clip(0)
        found.append((int(pool[gains.argmax()]), float(gains.max())))
        covered, remaining[found[-1][0]] = np.maximum(covered, kernel_N_Q[found[-1][0]]), False
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("eta", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_every_step_takes_the_largest_increase_of_the_objective(seed, eta, shift):
    kernel = random_kernel(seed, 15, 6, shift)
    multiplicities = np.random.default_rng(seed).integers(1, 4, size=6)
    selection = naive(kernel, multiplicities, 8, eta=eta)
    chosen: list[int] = []
    for index, gain in zip(selection.indices_B, selection.gains_B, strict=True):
        value = objective(kernel, multiplicities, chosen, eta)
        increases = [objective(kernel, multiplicities, [*chosen, other], eta) - value for other in range(15)]
        others = [increases[other] for other in range(15) if other not in chosen]
        np.testing.assert_allclose(gain, increases[index], atol=1e-9)
        np.testing.assert_allclose(gain, max(others), atol=1e-9)
        chosen.append(int(index))
    np.testing.assert_allclose(selection.gains_B.sum(), objective(kernel, multiplicities, chosen, eta))


def test_greedy_keeps_its_guarantee_against_the_best_batch():
    kernel, multiplicities = random_kernel(0, 9, 5, 0.3), np.array([1, 2, 1, 3, 1])
    greedy = naive(kernel, multiplicities, 3).gains_B.sum()
    best = max(objective(kernel, multiplicities, batch, 1.0) for batch in itertools.combinations(range(9), 3))
    assert (1 - 1 / np.e) * best <= greedy <= best + 1e-9


def test_gains_never_increase():
    gains = naive(random_kernel(1), np.ones(15), 40).gains_B
    assert (np.diff(gains) <= 0).all()


def test_multiplicities_are_repeated_columns():
    kernel, multiplicities = random_kernel(2), np.random.default_rng(2).integers(1, 6, size=15)
    counted = naive(kernel, multiplicities, 20)
    repeated = naive(np.repeat(kernel, multiplicities, axis=1), np.ones(multiplicities.sum()), 20)
    np.testing.assert_array_equal(counted.indices_B, repeated.indices_B)
    np.testing.assert_allclose(counted.gains_B, repeated.gains_B, rtol=1e-12)


@needs_submodlib
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_naive_streaming_is_submodlibs_naive_greedy(seed, shift):
    kernel = random_kernel(seed, 60, 25, shift)
    multiplicities = np.random.default_rng(seed).integers(1, 4, size=25)
    ours, theirs = (naive(kernel, multiplicities, 30, eta=0.7, engine=engine) for engine in ("streaming", "submodlib"))
    np.testing.assert_array_equal(ours.indices_B, theirs.indices_B)
    np.testing.assert_allclose(ours.gains_B, theirs.gains_B, rtol=1e-5)


@pytest.mark.parametrize("engine", ["streaming", pytest.param("submodlib", marks=needs_submodlib)])
def test_stochastic_with_all_candidates_is_naive(engine):
    kernel = random_kernel(5)
    stochastic = flqmi_gain_order(kernel, np.ones(15), 6, np.random.default_rng(9), epsilon=1e-5, engine=engine)
    np.testing.assert_array_equal(stochastic.indices_B, naive(kernel, np.ones(15), 6).indices_B)


@pytest.mark.parametrize("engine", ["streaming", pytest.param("submodlib", marks=needs_submodlib)])
def test_stochastic_repeats_with_its_seed_and_differs_with_another(engine):
    kernel = random_kernel(6, 200, 20)
    batches = [
        flqmi_gain_order(kernel, np.ones(20), 20, np.random.default_rng(seed), epsilon=0.3, engine=engine).indices_B
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(batches[0], batches[1])
    assert set(batches[0]) != set(batches[2])


def test_stochastic_loses_little():
    kernel = random_kernel(7, 500, 30)
    best = naive(kernel, np.ones(30), 25).gains_B.sum()
    stochastic = flqmi_gain_order(kernel, np.ones(30), 25, np.random.default_rng(0))
    assert stochastic.gains_B.sum() > 0.97 * best


@pytest.mark.parametrize(
    "count, budget, epsilon, expected",
    [(20_000, 100, 0.01, 921), (20, 10, 0.9, 1), (100, 100, 0.01, 4), (7, 0, 0.5, 4), (100, 1, 0.01, 460)],
)
def test_sample_size(count, budget, epsilon, expected):
    assert sample_size(count, budget, epsilon) == expected


@needs_submodlib
def test_submodlib_survives_a_sample_size_of_nothing():
    # unguarded, this call ends the process with a segmentation fault
    selection = flqmi_gain_order(
        random_kernel(0, 20, 5), np.ones(5), 10, np.random.default_rng(0), epsilon=0.9, engine="submodlib"
    )
    assert len(selection) == 10


@pytest.mark.parametrize("engine", ["streaming", pytest.param("submodlib", marks=needs_submodlib)])
@pytest.mark.parametrize("greedy", ["naive", "stochastic"])
@pytest.mark.parametrize("count, queries, budget", [(5, 3, 0), (5, 3, 5), (5, 3, 9), (1, 1, 1), (2, 1, 1), (6, 0, 3)])
def test_edges(engine, greedy, count, queries, budget):
    kernel = random_kernel(0, count, queries)
    before = kernel.copy()
    selection = flqmi_gain_order(
        kernel, np.ones(queries, dtype=int), budget, np.random.default_rng(0), greedy=greedy, engine=engine
    )
    assert len(selection) == min(count, budget)
    assert (selection.gains_B >= 0).all()
    np.testing.assert_array_equal(kernel, before)


def test_an_empty_pool():
    assert len(naive(np.zeros((0, 0)), np.zeros(0), 3)) == 0


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_ties_go_to_the_lowest_index(value):
    selection = naive(np.full((50, 4), value), np.ones(4), 6)
    np.testing.assert_array_equal(selection.indices_B, np.arange(6))
    np.testing.assert_array_equal(selection.gains_B, [5.0 if value > 0 else 0.0, *[max(value, 0.0)] * 5])


@needs_submodlib
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_submodlib_reports_no_gain_as_zero(value):
    selection = naive(np.full((9, 4), value), np.ones(4), 3, engine="submodlib")
    np.testing.assert_array_equal(selection.gains_B, np.zeros(3))


def test_many_ties_that_fall_apart():
    # equal rows in groups: after one of a group is taken the others are worth their relevance only
    kernel = np.repeat(np.eye(5), 8, axis=0)
    selection = naive(kernel, np.ones(5), 7)
    np.testing.assert_array_equal(selection.indices_B, [0, 8, 16, 24, 32, 1, 2])


def test_rows_may_be_computed_when_asked_for():
    kernel = random_kernel(8, 60, 10)

    class Provider:
        shape = kernel.shape
        asked = 0

        def __getitem__(self, indices):
            Provider.asked += len(indices)
            return kernel[indices]

    provided, whole = naive(Provider(), np.ones(10), 12), naive(kernel, np.ones(10), 12)
    np.testing.assert_array_equal(provided.indices_B, whole.indices_B)
    np.testing.assert_array_equal(provided.gains_B, whole.gains_B)
    assert Provider.asked < 60 * 12  # all gains at every step would ask for more


@pytest.mark.parametrize("levels", [2, 4, 1000])
@pytest.mark.parametrize("candidates", [None, 1, 50])
def test_bounds_change_nothing(levels, candidates):
    # against a greedy that computes every candidate's gain at every step; few levels make ties
    kernel = np.random.default_rng(levels).integers(-1, levels, size=(400, 30)) / levels
    weights = np.random.default_rng(1).integers(1, 4, size=30)
    selection = streaming_greedy(kernel, weights, 60, 0.5, candidates, np.random.default_rng(2))

    expected = plain_greedy(kernel, weights, 60, 0.5, candidates, np.random.default_rng(2))
    assert list(zip(selection.indices_B.tolist(), selection.gains_B.tolist(), strict=True)) == expected


@pytest.mark.parametrize("kind", ["heavy tails", "tiny", "huge", "nearly equal", "more queries than a tile holds"])
@pytest.mark.parametrize("candidates", [None, 10])
def test_float32_bounds_change_nothing(kind, candidates):
    rng = np.random.default_rng(3)
    shape = (30, 70_000) if kind.startswith("more") else (300, 200)
    kernel = rng.standard_t(2, size=shape).astype(np.float32)
    kernel *= np.float32({"tiny": 1e-42, "huge": 1e33}.get(kind, 1))
    if kind == "nearly equal":
        # float32 cannot tell these rows apart, float64 can
        kernel = rng.random(200) + 1e-12 * rng.random(shape)
    weights = rng.integers(1, 5, size=shape[1])
    selection = streaming_greedy(kernel, weights, 15, 0.5, candidates, np.random.default_rng(4))
    expected = plain_greedy(kernel, weights, 15, 0.5, candidates, np.random.default_rng(4))
    assert list(zip(selection.indices_B.tolist(), selection.gains_B.tolist(), strict=True)) == expected


def test_unknown_engine_and_rule_are_refused():
    for options in ({"engine": "gpu"}, {"greedy": "lazy"}):
        with pytest.raises(StrategyError, match="use one of"):
            flqmi_gain_order(np.ones((2, 2)), np.ones(2), 1, np.random.default_rng(0), **options)


def test_submodlib_that_is_not_there(monkeypatch):
    monkeypatch.setattr(flqmi_submodlib, "submodlib_available", lambda: False)
    with pytest.raises(SetupError, match="pip install"):
        naive(np.ones((3, 2)), np.ones(2), 1, engine="submodlib")


@needs_submodlib
def test_submodlib_is_refused_where_its_lists_do_not_fit():
    multiplicities = np.array([1, 2, 3])  # a column for each of 6 draws, 48 bytes an element
    kernel = random_kernel(0, 40, 3)
    assert len(naive(kernel, multiplicities, 3, engine="submodlib", memory=40 * 6 * 60)) == 3
    with pytest.raises(NotEnoughMemoryError, match="-engine streaming"):
        naive(kernel, multiplicities, 3, engine="submodlib", memory=40 * 6 * 60 - 1)
    assert len(naive(kernel, multiplicities, 3, memory=0)) == 3
