"""What the package computes in parts, written down in one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812


def mean_of_squares(samples: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """F of each layer from gradients (B, *weight.shape), float64."""
    return {name: torch.cat([some[name] for some in samples]).double().square().mean(0) for name in samples[0]}


def likelihood_of_heads(
    heads: Sequence[torch.Tensor], weight_B_xyz: torch.Tensor, exclusive: bool = True
) -> torch.Tensor:
    """Σ over heads, samples and cells of weight · ln p(the head's own decision).

    A cell of a coarse head holds whole voxels, and its weight is the sum of theirs.
    """
    total = weight_B_xyz.new_zeros(())
    pool = {2: F.avg_pool2d, 3: F.avg_pool3d}[weight_B_xyz.ndim - 1]
    for logits in heads:
        factors = [size // cells for size, cells in zip(weight_B_xyz.shape[1:], logits.shape[2:], strict=True)]
        weight = pool(weight_B_xyz[:, None], factors, divisor_override=1)[:, 0]
        if exclusive:
            loss = F.cross_entropy(logits, logits.argmax(1), reduction="none")
        else:
            loss = F.binary_cross_entropy_with_logits(logits, (logits > 0).to(logits), reduction="none").sum(1)
        total = total - (weight * loss).sum()
    return total
