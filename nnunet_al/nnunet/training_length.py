"""The length of a training that ends when it has stopped gaining: a constant learning rate, then its decay.

Everything is a pure function of the logged history, so that a continued training ends like an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

SHORTEST = 8
"""Epochs of constant rate before a training is judged,"""
LEAST_ITERATIONS = 500
"""and iterations: what a new batch of annotations teaches takes steps, and means over few of them are noise."""
LEAST_LOSS_GAIN = 0.03
"""Decrease of nnU-Net's loss (Dice + cross-entropy, nats) from one quarter of the epochs so far to the next."""
LEAST_DICE_GAIN = 0.01
"""Increase of the pseudo Dice coefficient from one quarter to the next."""
_WINDOW = 0.25
ENOUGH_CASES = 50
"""Annotated cases from which on some are held out to judge the training."""
_HELD_OUT = 10


def shortest_constant(iterations: int) -> int:
    """Return the number of epochs of ``iterations`` each after which a training is judged first."""
    return max(SHORTEST, math.ceil(LEAST_ITERATIONS / iterations))


def constant_epochs(losses: Sequence[float], dice: Sequence[float], shortest: int, longest: int) -> int | None:
    """Return the number of epochs after which the constant rate ends; None: it goes on.

    That is the first n, from ``shortest`` on, at which neither the mean loss of the last quarter of the n epochs is
    `LEAST_LOSS_GAIN` below that of the quarter before, nor the mean pseudo Dice `LEAST_DICE_GAIN` above; at most what
    leaves room for the decay within ``longest`` epochs. A loss that is not finite gains nothing.
    """
    last = longest_constant(longest)
    for n in range(min(shortest, last), len(losses) + 1):
        if n >= last or not (_gain(losses[:n], LEAST_LOSS_GAIN, -1) or _gain(dice[:n], LEAST_DICE_GAIN, 1)):
            return n
    return None


def total_epochs(constant: int | None, longest: int) -> int:
    """Return the number of epochs with the decay, as many as the constant ones; ``longest`` while it is not known."""
    return longest if constant is None else min(longest, 2 * constant)


def longest_constant(longest: int) -> int:
    """Return the largest n, at least 1, whose decay ends within ``longest`` epochs."""
    return max(1, longest // 2)


def held_out(training: Sequence[str]) -> list[str]:
    """Return the cases that judge a training and join it for the decay: a tenth; none where there are few."""
    return list(training[::_HELD_OUT]) if len(training) >= ENOUGH_CASES else []


class PlateauSchedule:
    """A constant learning rate, then a linear decay towards 0; a scheduler as nnU-Net's trainer calls it."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, initial: float, length: Callable[[], tuple[int | None, int]]
    ) -> None:
        """Begin with the rate ``initial``; ``length`` returns the epochs of constant rate, if known, and all epochs."""
        self._optimizer, self._initial, self._length = optimizer, initial, length

    def step(self, epoch: int) -> None:
        """Set the rate of an epoch, counted from 0."""
        constant, total = self._length()
        rate = self._initial
        if constant is not None and epoch >= constant:
            rate *= 1 - (epoch - constant + 1) / (total - constant + 1)
        for group in self._optimizer.param_groups:
            group["lr"] = rate


def _gain(values: Sequence[float], least: float, sign: int) -> bool:
    """Tell whether the mean of the last quarter is better than that of the quarter before by ``least``."""
    window = max(2, math.ceil(_WINDOW * len(values)))
    before, recent = (np.asarray(part, float) for part in (values[-2 * window : -window], values[-window:]))
    if not (np.isfinite(before).any() and np.isfinite(recent).any()):
        return False
    return bool(sign * (np.nanmean(recent) - np.nanmean(before)) >= least)
