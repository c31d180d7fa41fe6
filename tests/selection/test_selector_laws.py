"""What every selector promises, whatever it selects by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest

from nnunet_al.selection.class_balanced import class_balanced
from nnunet_al.selection.evenly_spaced import evenly_spaced
from nnunet_al.selection.k_center import k_center
from nnunet_al.selection.kmeans_plusplus import kmeans_plusplus
from nnunet_al.selection.kmeans_uncertain import kmeans_uncertain
from nnunet_al.selection.query import QuerySet
from nnunet_al.selection.query_sampling import query_sampling
from nnunet_al.selection.ranking_noise import power_noise, softrank_noise
from nnunet_al.selection.selection import Selection
from nnunet_al.selection.selective import selective_union
from nnunet_al.selection.stochastic_batches import stochastic_batches
from nnunet_al.selection.top_k import top_k


@dataclass(frozen=True)
class Pool:
    names_N: np.ndarray
    scores_N: np.ndarray
    others_N: np.ndarray
    class_scores_N_C: np.ndarray
    embeddings_N_d: np.ndarray
    cases_N: np.ndarray
    draws_N: np.ndarray  # in the query set; 0 for regions that are not in it
    places_N_2: np.ndarray

    @property
    def query(self) -> QuerySet:
        drawn_Q = np.flatnonzero(self.draws_N)
        return QuerySet(drawn_Q, self.draws_N[drawn_Q])


def pool(count: int) -> Pool:
    rng = np.random.default_rng(count)
    order = rng.permutation(count)
    return Pool(
        names_N=np.array([f"case_{index // 6}[{index % 6}]" for index in order], dtype=object),
        # few levels make ties, 0 is one of them
        scores_N=rng.integers(0, 8, size=count) / 10,
        others_N=rng.gamma(0.5, size=count),
        class_scores_N_C=rng.gamma(0.5, size=(count, 3)),
        embeddings_N_d=rng.integers(-3, 4, size=(count, 4)).astype(np.float32) / 10,
        cases_N=np.array([f"case_{index}" for index in rng.integers(0, 4, size=count)], dtype=object),
        draws_N=rng.integers(0, 3, size=count),
        places_N_2=np.stack([order // 6, order % 6], axis=1),
    )


def arranged(whole: Pool, order: np.ndarray) -> Pool:
    return Pool(**{field.name: getattr(whole, field.name)[order] for field in fields(Pool)})


REFERENCES = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
SELECTORS: dict[str, Callable[[Pool, int, np.random.Generator], Selection]] = {
    "top_k": lambda p, b, rng: top_k(p.scores_N, p.names_N, b),
    "power": lambda p, b, rng: top_k(p.scores_N, p.names_N, b, power_noise(p.names_N, rng, 2.0)),
    "softrank": lambda p, b, rng: top_k(p.scores_N, p.names_N, b, softrank_noise(p.names_N, rng)),
    "stochastic_batches": lambda p, b, rng: stochastic_batches(p.scores_N, p.names_N, b, rng),
    "stochastic_batches_5": lambda p, b, rng: stochastic_batches(p.scores_N, p.names_N, b, rng, num_batches=5),
    "selective": lambda p, b, rng: selective_union(p.scores_N, p.others_N, p.scores_N, p.names_N, b),
    "selective_power": lambda p, b, rng: selective_union(
        p.scores_N, p.others_N, p.scores_N, p.names_N, b, power_noise(p.names_N, rng, 1.0)
    ),
    "class_balanced": lambda p, b, rng: class_balanced(p.scores_N, p.class_scores_N_C, p.names_N, b, rng, 0.66),
    "class_balanced_softrank": lambda p, b, rng: class_balanced(
        p.scores_N, p.class_scores_N_C, p.names_N, b, rng, 0.66, softrank_noise(p.names_N, rng)
    ),
    "k_center": lambda p, b, rng: k_center(p.embeddings_N_d, p.names_N, b),
    "k_center_references": lambda p, b, rng: k_center(p.embeddings_N_d, p.names_N, b, REFERENCES),
    "badge": lambda p, b, rng: kmeans_plusplus(p.embeddings_N_d, p.names_N, b, rng),
    "kmeans_uniform": lambda p, b, rng: kmeans_plusplus(p.embeddings_N_d, p.names_N, b, rng, first="uniform"),
    "kmeans_uncertain": lambda p, b, rng: kmeans_uncertain(
        p.scores_N, p.embeddings_N_d, p.cases_N, p.names_N, b, rng, per_case=0.5
    ),
    "query_sampling": lambda p, b, rng: query_sampling(p.query, p.scores_N, p.names_N, b, rng),
    "evenly_spaced": lambda p, b, rng: evenly_spaced(p.places_N_2, p.names_N, b, rng),
}
DETERMINISTIC = {"top_k", "selective", "k_center", "k_center_references"}
# the others look at the whole batch at once, or at a part of the pool that grows with it
NESTED = {*SELECTORS} - {
    "stochastic_batches",
    "stochastic_batches_5",
    "class_balanced",
    "class_balanced_softrank",
    "kmeans_uncertain",
    "evenly_spaced",
}
every_selector = pytest.mark.parametrize("select", SELECTORS.values(), ids=SELECTORS)


@every_selector
@pytest.mark.parametrize("budget", [1, 7, 40])
def test_the_order_of_the_pool_changes_nothing(select, budget):
    whole = pool(40)
    for seed in range(3):
        moved = arranged(whole, np.random.default_rng(seed).permutation(40))
        first, second = (select(p, budget, np.random.default_rng(5)) for p in (whole, moved))
        assert list(whole.names_N[first.indices_B]) == list(moved.names_N[second.indices_B])
        np.testing.assert_array_equal(first.gains_B, second.gains_B)


@every_selector
@pytest.mark.parametrize(
    "count, budget", [(0, 0), (0, 3), (1, 0), (1, 1), (1, 4), (2, 1), (9, 8), (9, 9), (9, 10), (9, -1), (40, 13)]
)
def test_exactly_what_was_asked_for_comes_back(select, count, budget):
    selection = select(pool(count), budget, np.random.default_rng(0))
    assert len(selection) == min(max(budget, 0), count)
    assert set(selection.indices_B) <= set(range(count))


@every_selector
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_constant_scores_and_equal_embeddings_are_no_obstacle(select, value):
    flat = replace(
        pool(20),
        **{name: np.full_like(getattr(pool(20), name), value) for name in ("scores_N", "others_N", "class_scores_N_C")},
        embeddings_N_d=np.full((20, 4), value, dtype=np.float32),
    )
    selection = select(flat, 12, np.random.default_rng(0))
    assert len(selection) == 12
    if select in [SELECTORS[name] for name in DETERMINISTIC]:
        assert list(flat.names_N[selection.indices_B]) == sorted(flat.names_N)[:12]


@every_selector
def test_inputs_may_be_read_only_and_stay_as_they_are(select):
    whole, untouched = pool(30), pool(30)
    for field in fields(Pool):
        getattr(whole, field.name).flags.writeable = False
    select(whole, 10, np.random.default_rng(0))
    for field in fields(Pool):
        np.testing.assert_array_equal(getattr(whole, field.name), getattr(untouched, field.name))


@pytest.mark.parametrize("name", SELECTORS)
def test_the_generators_state_alone_decides(name):
    batches = [tuple(SELECTORS[name](pool(40), 6, np.random.default_rng(seed)).indices_B) for seed in (1, 1, 2, 3)]
    assert batches[0] == batches[1]
    assert (len(set(batches)) == 1) == (name in DETERMINISTIC)


@pytest.mark.parametrize("name", sorted(NESTED))
def test_a_smaller_batch_begins_a_larger_one(name):
    small, large = (SELECTORS[name](pool(40), budget, np.random.default_rng(1)) for budget in (6, 20))
    np.testing.assert_array_equal(small.indices_B, large.indices_B[:6])
    np.testing.assert_array_equal(small.gains_B, large.gains_B[:6])
