"""What the package computes in parts, written down in one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch


def mean_of_squares(samples: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """F of each layer from gradients (B, *weight.shape), float64."""
    return {name: torch.cat([some[name] for some in samples]).double().square().mean(0) for name in samples[0]}
