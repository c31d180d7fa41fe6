"""What a selection may use changes how it is done, and not what comes out."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from nnunet_al.errors import NotEnoughMemoryError
from nnunet_al.seeding import generator
from nnunet_al.selection.kernel_plan import plan_kernel
from nnunet_al.selection.resources import Resources
from nnunet_al.strategies.candidates import FIRST_ROUND
from nnunet_al.strategies.catalog import get, with_parameters
from nnunet_al.strategies.select import draw_query_for, select_batch

from .pools import pool, shuffled

RNGS = partial(generator, 3, 1)
COUNT = 1300


@pytest.mark.parametrize("strategy", ["usimc", "usimf"])
def test_little_memory_changes_no_batch_and_is_announced(strategy):
    recipe, said = get(strategy), []
    candidates = pool(COUNT)
    plenty = select_batch(recipe, candidates, 30, RNGS)
    queries = len(draw_query_for(recipe, candidates, 30, RNGS))
    everything = plan_kernel(COUNT, queries, 12, None).bytes_needed
    # room for 100 rows
    scarce = Resources(memory=int((everything - 4 * queries * (COUNT - 100)) / 0.8) + 1, announce=said.append)
    found = select_batch(recipe, candidates, 30, RNGS, "streaming", FIRST_ROUND, scarce)
    np.testing.assert_array_equal(found.indices_B, plenty.indices_B)
    np.testing.assert_array_equal(found.gains_B, plenty.gains_B)
    assert len(said) == 1
    assert f"kernel is {COUNT} x {queries}: 100 of its rows" in said[0]


def test_blocks_follow_the_names():
    recipe, candidates, other = get("usimc"), pool(COUNT), shuffled(pool(COUNT))
    first, second = select_batch(recipe, candidates, 30, RNGS), select_batch(recipe, other, 30, RNGS)
    assert [candidates.names_N[i] for i in first.indices_B] == [other.names_N[i] for i in second.indices_B]
    np.testing.assert_array_equal(first.gains_B, second.gains_B)


@pytest.mark.parametrize("engine", ["streaming", "submodlib"])
def test_too_little_memory_is_said_before_anything_is_done(engine):
    if engine == "submodlib":
        pytest.importorskip("submodlib")
    # the smallest form of the kernel fits into 100 MB, submodlib's lists do not
    memory = 100_000_000 if engine == "submodlib" else 1_000_000
    recipe = with_parameters(get("usimc"), query_size=5000)
    with pytest.raises(NotEnoughMemoryError, match="-tag"):
        select_batch(recipe, pool(COUNT), 30, RNGS, engine, FIRST_ROUND, Resources(memory=memory))
