"""Greedy maximisation of FLQMI on the rows of a kernel, without a second array of the kernel's size."""

from __future__ import annotations

import math

import numpy as np

from nnunet_al.selection.flqmi_gains import Gains
from nnunet_al.selection.kernel_rows import KernelRows
from nnunet_al.selection.selection import Selection


def sample_size(count: int, budget: int, epsilon: float) -> int:
    """Return the number of candidates per step of stochastic greedy: floor(N/B ln(1/ε)), at least 1."""
    return max(1, math.floor(count / max(budget, 1) * math.log(1 / epsilon)))


def streaming_greedy(
    kernel_N_Q: KernelRows,
    multiplicities_Q: np.ndarray,
    budget: int,
    eta: float,
    candidates: int | None,
    rng: np.random.Generator,
) -> Selection:
    """Add the candidate with the largest gain, ``budget`` times; ties go to the lowest index.

    Gains cannot increase while the batch grows, so earlier gains are upper bounds, and a candidate is evaluated again
    only if its bound reaches the best gain of the step. The result is that of computing all gains, see
    ``flqmi_gains.Gains``.

    ``candidates`` is the number of random candidates per step, at least 1, at most the remaining regions; None: all of
    them. The other parameters are those of ``flqmi.flqmi_gain_order``.
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
