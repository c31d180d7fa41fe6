"""Equal scores: a seeded draw decides among regions, never their names."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from nnunet_al.pool.boxes import Region
from nnunet_al.rounds.candidates import tie_names
from nnunet_al.rounds.stages import select
from nnunet_al.seeding import generator
from nnunet_al.strategies.select import select_batch

from .pools import degenerate
from .test_contract import CASES

EQUAL = ("constant scores", "zero scores", "equal embeddings", "zero embeddings")
COUNT, BUDGET = 200, 20


def context(ties: str = "seeded", seed: int = 0, number: int = 3) -> SimpleNamespace:
    return SimpleNamespace(decided=SimpleNamespace(ties=ties, seed=seed), number=number)


def regions(count: int = COUNT) -> list[Region]:
    """Slices of cases of 20, as neighbours in the order of their names."""
    return [Region(f"case_{index // 20:02d}", ((index % 20, index % 20 + 1), (0, 8), (0, 8))) for index in range(count)]


def neighbours(places_B: list[int]) -> int:
    """Pairs of a batch that are next to each other in the pool."""
    taken = set(places_B)
    return sum(place + 1 in taken for place in taken)


@pytest.mark.parametrize("recipe, engine", CASES)
@pytest.mark.parametrize("kind", EQUAL)
def test_no_batch_is_a_run_of_neighbouring_names(recipe, engine, kind):
    pool = regions()
    found = []
    for seed in range(5):
        equal = degenerate(kind, COUNT)
        equal = replace(equal, names_N=tie_names(context(seed=seed), pool), cases_N=[region.case for region in pool])
        equal = replace(equal, scores_N=np.full(COUNT, 0.5), target_scores_N=None, boundary_scores_N=None)
        equal = replace(equal, target_scores_N=np.zeros(COUNT), boundary_scores_N=np.zeros(COUNT))
        equal = replace(equal, class_scores_N_C=np.zeros((COUNT, 3)))
        found.append(
            neighbours(select_batch(recipe, equal, BUDGET, partial(generator, seed, 3), engine).indices_B.tolist())
        )
    # by chance a batch of 20 of 200 has 199 · (20 · 19) / (200 · 199) = 1.9 such pairs; five batches have 9.5 ± 3
    assert sum(found) < 25, found


@pytest.mark.parametrize("ties, expected", [("names", True), ("seeded", False)])
def test_campaigns_that_began_before_keep_the_order_of_names(ties, expected):
    names = tie_names(context(ties), regions())
    assert (names == [region.name for region in regions()]) == expected


def test_a_place_depends_on_seed_round_and_name_only():
    pool = regions()
    names = tie_names(context(), pool)
    assert tie_names(context(), pool[::-1]) == names[::-1]
    assert tie_names(context(), pool[50:60]) == names[50:60]
    assert len({*names}) == COUNT
    assert tie_names(context(seed=1), pool) != names != tie_names(context(number=4), pool)


@pytest.mark.parametrize(
    "gains, told",
    [([0.0] * 6 + [1.0] * 4, "6 of 10 regions have the same score (0)"), ([0.5] * 5 + list(range(5)), ""), ([1.0], "")],
)
def test_a_batch_that_ties_decided_says_so(capsys, gains, told):
    select._say_ties(np.array(gains, float))
    out = capsys.readouterr().out
    assert (told in out) if told else not out
