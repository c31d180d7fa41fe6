"""Facility location mutual information (FLQMI) with a query set, maximised greedily by one of two engines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_al.errors import StrategyError
from nnunet_al.selection.flqmi_streaming import sample_size, streaming_greedy
from nnunet_al.selection.flqmi_submodlib import submodlib_greedy, submodlib_sentence
from nnunet_al.selection.kernel import SimilarityKernel
from nnunet_al.selection.kernel_blocks import KernelBlocks
from nnunet_al.selection.kernel_plan import plan_kernel
from nnunet_al.selection.kernel_rows import KernelRows
from nnunet_al.selection.query import QuerySet
from nnunet_al.selection.resources import Resources
from nnunet_al.selection.selection import Selection, order_by_name

ENGINES = ("streaming", "submodlib")
GREEDY = ("stochastic", "naive")


def flqmi(
    embeddings_N_d: np.ndarray,
    query: QuerySet,
    names_N: Sequence[str],
    budget: int,
    rng: np.random.Generator,
    cosine: bool,
    eta: float,
    epsilon: float,
    greedy: str,
    engine: str = "streaming",
    resources: Resources = Resources(),  # noqa: B008 -- frozen
) -> Selection:
    """Select a batch that covers the query set: FLQMI on the similarity of embeddings, in the order of names.

    Parameters
    ----------
    embeddings_N_d : float array (N, d)
        gradients; for the Fisher kernel already scaled by (F + λ)^-1/2.
    names_N : sequence of str
        rows of the kernel go by them, because ties go to a row and candidates are drawn among rows, and so do columns,
        because sums round.
    cosine : bool
        compare embeddings by their direction alone.
    resources : Resources
        device and memory for the kernel; the memory that it needs is announced.
    query, budget, rng, eta, epsilon, greedy, engine
        the query set, from the same pool; the others as in ``flqmi_gain_order``.

    Raises NotEnoughMemoryError if the kernel does not fit into memory.
    """
    order_N = order_by_name(names_N)
    columns_Q = np.argsort(np.argsort(order_N)[query.indices_Q])
    plan = plan_kernel(len(order_N), len(query), embeddings_N_d.shape[1], resources.memory)
    resources.announce(submodlib_sentence(len(order_N), query.draws) if engine == "submodlib" else plan.sentence)
    blocks = KernelBlocks(embeddings_N_d, order_N, query.indices_Q[columns_Q], cosine, resources.device)
    kernel = SimilarityKernel(blocks, plan.kept_rows)
    multiplicities_Q = query.multiplicities_Q[columns_Q]
    chosen = flqmi_gain_order(
        kernel, multiplicities_Q, budget, rng, eta, epsilon, greedy, engine, memory=resources.memory
    )
    return Selection(order_N[chosen.indices_B], chosen.gains_B)


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
    """Select a batch A that maximises FLQMI (equation 1 of Föllmer et al. 2024) greedily; gains are marginal gains.

    I(A; Q) = Σ_q m_q max_{a∈A} S_aq + η Σ_{a∈A} max_q S_aq, where both maxima start at 0, so that a negative similarity
    counts as 0.

    Parameters
    ----------
    kernel_N_Q : array (N, Q), or anything with ``shape`` and rows by index
        S, similarity of each region to each unique member of the query set. Rows sorted by names make the batch
        independent of the pool's order.
    multiplicities_Q : int array (Q,)
        m, how often each member was drawn.
    budget, rng
        as in all selectors; ``rng`` draws the candidates of stochastic greedy.
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

    Raises StrategyError if there is no such engine or greedy rule; SetupError if the engine is submodlib and it cannot
    be imported; NotEnoughMemoryError if submodlib's copy of the kernel does not fit into ``memory``.
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
