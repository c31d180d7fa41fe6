"""FLQMI by submodlib's optimiser (Kaushal et al. 2022), without the calls that make it crash."""

from __future__ import annotations

import math

import numpy as np

from nnunet_al.errors import NotEnoughMemoryError, SetupError
from nnunet_al.memory import USABLE_SHARE, gigabytes
from nnunet_al.selection.flqmi_streaming import streaming_greedy
from nnunet_al.selection.kernel_rows import KernelRows
from nnunet_al.selection.selection import Selection

# measured, for the kernel as a list of lists: per element a float object, a pointer and submodlib's own copies
_BYTES_PER_ELEMENT = 48
# the value that submodlib reports for a gain of 0
_NO_GAIN = float(np.finfo(np.float32).tiny)


def submodlib_available() -> bool:
    """Tell whether submodlib can be imported; it has wheels for some Python versions only."""
    try:
        import submodlib  # noqa: F401
    except ImportError:
        return False
    return True


def submodlib_bytes(pool: int, draws: int) -> int:
    """Return the bytes that submodlib needs for a kernel, which has one column per draw (no multiplicities)."""
    return pool * draws * _BYTES_PER_ELEMENT


def submodlib_sentence(pool: int, draws: int) -> str:
    """Return a sentence about the memory that submodlib will need."""
    return f"submodlib takes the similarity kernel, {pool} x {draws}, in {gigabytes(submodlib_bytes(pool, draws))}"


def submodlib_greedy(
    kernel_N_Q: KernelRows,
    multiplicities_Q: np.ndarray,
    budget: int,
    rng: np.random.Generator,
    eta: float,
    epsilon: float,
    greedy: str,
    memory: int | None = None,
) -> Selection:
    """Maximise FLQMI with submodlib; parameters as in ``flqmi.flqmi_gain_order``.

    Where all candidates are evaluated, the streaming engine chooses the same regions in the same order; it can be
    seeded and takes a fraction of the time and memory. This engine is for repeating experiments with submodlib.

    * A multiplicity m becomes m equal columns. Gains are those of the kernel rounded to float32.
    * Its stochastic optimiser restarts the C library's generator from 1 in every call and so cannot be seeded: the rows
      are permuted by ``rng`` instead.
    * It crashes where its sample size rounds to 0: the naive optimiser is used instead.
    * It accepts neither a budget of the whole pool nor an empty query set: the streaming engine's naive greedy is used
      for these.

    Raises SetupError if submodlib cannot be imported; NotEnoughMemoryError if its copy of the kernel does not fit into
    ``memory`` bytes.
    """
    if not submodlib_available():
        raise SetupError(
            "The engine submodlib was asked for and cannot be imported: run 'pip install submodlib-py', "
            "or use the engine streaming."
        )
    count = kernel_N_Q.shape[0]
    multiplicities_Q = np.asarray(multiplicities_Q, dtype=np.int64)
    if budget <= 0 or budget >= count or multiplicities_Q.sum() == 0:
        return streaming_greedy(kernel_N_Q, multiplicities_Q, budget, eta, None, rng)
    draws = int(multiplicities_Q.sum())
    needed = submodlib_bytes(count, draws)
    if memory is not None and needed > USABLE_SHARE * memory:
        raise NotEnoughMemoryError(
            f"The engine submodlib needs {gigabytes(needed / USABLE_SHARE)} of memory for a kernel of {count} x "
            f"{draws}, and {gigabytes(memory)} are free: start another campaign with -tag and -engine streaming."
        )

    # 1.001: submodlib rounds down its own product, which may be smaller than ours in the last digit
    stochastic = greedy == "stochastic" and count / budget * math.log(1 / epsilon) >= 1.001
    order_N = rng.permutation(count) if stochastic else np.arange(count)
    pairs = _maximise(kernel_N_Q, order_N, multiplicities_Q, budget, eta, epsilon, stochastic)
    assert len(pairs) == budget, f"submodlib returned {len(pairs)} of {budget} regions"
    indices_B = order_N[[index for index, _ in pairs]]
    gains_B = np.array([gain for _, gain in pairs])
    gains_B[gains_B <= _NO_GAIN] = 0.0
    return Selection(indices_B, gains_B)


def _maximise(
    kernel_N_Q: KernelRows,
    order_N: np.ndarray,
    multiplicities_Q: np.ndarray,
    budget: int,
    eta: float,
    epsilon: float,
    stochastic: bool,
) -> list[tuple[int, float]]:
    from submodlib import FacilityLocationVariantMutualInformationFunction

    draws = int(multiplicities_Q.sum())
    rows = np.asarray(kernel_N_Q[order_N], dtype=np.float32)
    function = FacilityLocationVariantMutualInformationFunction(
        n=len(order_N),
        num_queries=draws,
        query_sijs=np.repeat(rows, multiplicities_Q, axis=1),
        queryDiversityEta=float(eta),
    )
    # the optimiser works on its own copy: free the array and the list of lists
    function.query_sijs = function.cpp_query_sijs = None
    return function.maximize(
        budget,
        optimizer="StochasticGreedy" if stochastic else "NaiveGreedy",
        stopIfZeroGain=False,
        stopIfNegativeGain=False,
        epsilon=epsilon,
        show_progress=False,
    )
