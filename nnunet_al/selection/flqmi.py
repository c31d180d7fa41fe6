"""Facility location mutual information (FLQMI) with a query set, maximised greedily by one of two engines."""

from __future__ import annotations

import numpy as np

from nnunet_al.errors import StrategyError
from nnunet_al.selection.flqmi_streaming import sample_size, streaming_greedy
from nnunet_al.selection.flqmi_submodlib import submodlib_greedy
from nnunet_al.selection.kernel_rows import KernelRows
from nnunet_al.selection.selection import Selection

ENGINES = ("streaming", "submodlib")
GREEDY = ("stochastic", "naive")


def flqmi_gain_order(
    kernel_N_Q: KernelRows,
    multiplicities_Q: np.ndarray,
    budget: int,
    rng: np.random.Generator,
    eta: float = 1.0,
    epsilon: float = 0.01,
    greedy: str = "stochastic",
    engine: str = "streaming",
    memory: int | None = None,
) -> Selection:
    """Select a batch A that maximises FLQMI (equation 1 of Föllmer et al. 2024) greedily.

    I(A; Q) = Σ_q m_q max_{a∈A} S_aq + η Σ_{a∈A} max_q S_aq, where both maxima start at 0, so that a negative similarity
    counts as 0.

    Parameters
    ----------
    kernel_N_Q : array (N, Q), or anything with ``shape`` and rows by index
        S, similarity of each region to each unique member of the query set. Rows sorted by names make the batch
        independent of the pool's order.
    multiplicities_Q : int array (Q,)
        m, how often each member was drawn.
    budget : int
        number of regions; a smaller pool is returned whole, in the order of gains.
    rng : numpy generator
        draws the candidates of stochastic greedy.
    eta : float
        η, weight of relevance to the query set against its coverage.
    epsilon : float
        stochastic greedy evaluates floor(N/budget · ln(1/ε)) random candidates per step, at least 1.
    greedy : {"stochastic", "naive"}
        naive evaluates all remaining regions.
    engine : {"streaming", "submodlib"}
        numpy, ties to the lowest index; or submodlib's optimiser, with its own order of ties. Where all candidates are
        evaluated and there are no ties, both choose the same regions in the same order.
    memory : int, optional
        free bytes, into which submodlib's copy of the kernel must fit; streaming needs almost none.

    Returns
    -------
    Selection
        regions in the order of choice, with the marginal gain of each.

    Raises
    ------
    StrategyError
        if there is no such engine or greedy rule.
    SetupError
        if the engine is submodlib and it cannot be imported.
    NotEnoughMemoryError
        if submodlib's copy of the kernel does not fit into ``memory``.
    """
    for value, known, option in ((engine, ENGINES, "engine"), (greedy, GREEDY, "greedy rule")):
        if value not in known:
            raise StrategyError(f"FLQMI has no {option} '{value}': use one of {', '.join(known)}.")
    assert eta >= 0
    assert 0 < epsilon < 1
    if engine == "submodlib":
        return submodlib_greedy(kernel_N_Q, multiplicities_Q, budget, rng, eta, epsilon, greedy, memory)
    candidates = sample_size(kernel_N_Q.shape[0], budget, epsilon) if greedy == "stochastic" else None
    return streaming_greedy(kernel_N_Q, multiplicities_Q, budget, eta, candidates, rng)
