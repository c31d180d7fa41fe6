"""Sources of posterior samples with one interface: a single network, its dropout, or an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from nnunet_al.scoring.dropout import draw_masks
from nnunet_al.scoring.fast_network import as_weights
from nnunet_al.scoring.posterior import deterministic_probabilities, sampled_probabilities


@dataclass(frozen=True)
class Samples:
    """Predictions of a sampler for a batch of windows.

    Attributes
    ----------
    probs_T_B_C_xyz : probabilities of T posterior samples, float32: softmax classes, or sigmoid heads
    visible_B_xyz : bool, the voxels in view in all samples; None: every voxel
    predicted_loss_B : the loss that a loss module predicts (learning loss), else None
    """

    probs_T_B_C_xyz: torch.Tensor
    visible_B_xyz: torch.Tensor | None = None
    predicted_loss_B: torch.Tensor | None = None


class Sampler(Protocol):
    """Turns windows into samples; a window's result depends neither on its batch nor on earlier calls.

    (Convolutions may differ in the last digits between batch sizes: to compare scores, use batches of one size, see
    `posterior.pad_batch`.)
    """

    def __call__(self, data_B_C_xyz: torch.Tensor) -> Samples:
        """Return the samples of the windows, on the data's device; all windows of all calls have one shape."""


@dataclass(frozen=True)
class DeterministicSampler:
    """One pass, T = 1, dropout off. `exclusive`: softmax classes; else sigmoid heads."""

    network: nn.Module
    exclusive: bool

    def __call__(self, data_B_C_xyz: torch.Tensor) -> Samples:
        """Return the network's prediction as the only sample."""
        return Samples(deterministic_probabilities(self.network, data_B_C_xyz, self.exclusive))


class DropoutSampler:
    """Monte Carlo dropout (Gal and Ghahramani 2016): T = `passes` sub-networks, the same for every window."""

    def __init__(self, network: nn.Module, exclusive: bool, passes: int, rng: np.random.Generator) -> None:
        """Store the settings; the masks are drawn from `rng` once, at the first call."""
        assert passes >= 1, passes
        self._network, self._exclusive, self._passes, self._rng = network, exclusive, passes, rng
        self._masks: list[torch.Tensor] | None = None

    def __call__(self, data_B_C_xyz: torch.Tensor) -> Samples:
        """Return T samples.

        Raises ModelError if the network has no dropout.
        """
        masks = self.masks(data_B_C_xyz)
        return Samples(sampled_probabilities(self._network, data_B_C_xyz, masks, self._exclusive))

    def masks(self, data_B_C_xyz: torch.Tensor) -> list[torch.Tensor]:
        """Return the sub-networks (see `dropout.draw_masks`), which are drawn at the first call.

        Raises ModelError if the network has no dropout.
        """
        if self._masks is None:
            example = as_weights(self._network, torch.zeros_like(data_B_C_xyz[:1]))
            drawn = draw_masks(self._network, example, self._passes, self._rng)
            self._masks = [mask_T_C.to(data_B_C_xyz.device) for mask_T_C in drawn]  # moved to the device once
        return self._masks


@dataclass(frozen=True)
class EnsembleSampler:
    """Deep ensemble (Lakshminarayanan et al. 2017): one deterministic sample per network, in their order."""

    networks: Sequence[nn.Module]
    exclusive: bool

    def __call__(self, data_B_C_xyz: torch.Tensor) -> Samples:
        """Return T samples, one per network."""
        assert len(self.networks) > 0, "an ensemble without members"
        return Samples(
            torch.cat([deterministic_probabilities(network, data_B_C_xyz, self.exclusive) for network in self.networks])
        )
