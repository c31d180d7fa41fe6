"""Greedy maximisation of FLQMI on the rows of a kernel, with nothing of the kernel's size beside it."""

from __future__ import annotations

import math

import numpy as np

from nnunet_al.selection.flqmi_gains import Gains
from nnunet_al.selection.kernel_rows import KernelRows
from nnunet_al.selection.selection import Selection


def sample_size(count: int, budget: int, epsilon: float) -> int:
    """Return the number of candidates a step of stochastic greedy: floor(N/B ln(1/ε)), at least 1."""
    return max(1, math.floor(count / max(budget, 1) * math.log(1 / epsilon)))


def streaming_greedy(
    kernel_N_Q: KernelRows,
    multiplicities_Q: np.ndarray,
    budget: int,
    eta: float,
    candidates: int | None,
    rng: np.random.Generator,
) -> Selection:
    """Add ``budget`` times the candidate with the largest gain; ties go to the lowest index.

    A gain can only fall while the batch grows, so one seen earlier bounds today's, and a candidate is looked at again
    only if its bound reaches the best gain of the step; ``flqmi_gains.Gains`` says why the result is nevertheless that
    of computing all gains.

    Parameters
    ----------
    kernel_N_Q, multiplicities_Q, budget, eta, rng
        as in ``flqmi.flqmi_gain_order``.
    candidates : int or None
        number of random candidates a step, at least 1 and capped by what remains; None looks at all.
    """
    count = kernel_N_Q.shape[0]
    wanted = min(max(budget, 0), count)
    picked: list[int] = []
    worth: list[float] = []
    if wanted == 0:
        return Selection(np.array(picked), np.array(worth))
    gains = Gains(kernel_N_Q, np.asarray(multiplicities_Q, dtype=np.float64), eta)
    remaining_N = np.ones(count, dtype=bool)
    while len(picked) < wanted:
        pool = np.flatnonzero(remaining_N)
        if candidates is not None and candidates < len(pool):
            pool = rng.choice(pool, size=candidates, replace=False, shuffle=False)
        index, gain = gains.take_best(pool)
        remaining_N[index] = False
        picked.append(index)
        worth.append(gain)
    return Selection(np.array(picked), np.array(worth))
