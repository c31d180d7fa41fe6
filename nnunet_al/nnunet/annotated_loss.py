"""Cross-entropy over the annotated voxels of nnU-Net's batches, and which voxels these are."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import nn


class CrossEntropy(nn.Module):
    """nnU-Net's loss without Dice: the mean over the annotated voxels, in nats; 0 where a batch has none.

    Exclusive classes: the cross-entropy of the softmax; with one foreground class it is binary cross-entropy, as in
    Danaee et al. 2026. Regions: binary cross-entropy, its mean over the regions.
    """

    def __init__(self, exclusive: bool, ignore_label: int | None) -> None:
        """Store how nnU-Net encodes the targets, see `counted_target`."""
        super().__init__()
        self._exclusive, self._ignore_label = exclusive, ignore_label

    def forward(self, logits_B_C_xyz: torch.Tensor, target_B_C_xyz: torch.Tensor) -> torch.Tensor:
        """Return the loss of one resolution."""
        target, counted_B_xyz = counted_target(target_B_C_xyz, self._exclusive, self._ignore_label)
        if self._exclusive:
            labels_B_xyz = target.masked_fill(~counted_B_xyz, 0)
            entropy_B_xyz = F.cross_entropy(logits_B_C_xyz, labels_B_xyz, reduction="none")
        else:
            entropy_B_xyz = F.binary_cross_entropy_with_logits(logits_B_C_xyz, target, reduction="none").mean(1)
        return (self.weighted(entropy_B_xyz) * counted_B_xyz).sum() / counted_B_xyz.sum().clamp_min(1)

    def weighted(self, entropy_B_xyz: torch.Tensor) -> torch.Tensor:
        """Return what is averaged over the annotated voxels; for subclasses."""
        return entropy_B_xyz


def counted_target(
    target_B_C_xyz: torch.Tensor, exclusive: bool, ignore_label: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Convert nnU-Net's target of one resolution for `segmentation_loss`.

    Exclusive classes have one channel of labels; regions one channel of 0 and 1 each, and with an ignore label a last
    channel that is 1 at unannotated voxels. Without an ignore label every voxel is annotated.

    Returns
    -------
    target, counted_B_xyz
        labels (B, xyz) as int64 or regions (B, C, xyz) as float32, and the mask of annotated voxels (bool).
    """
    if exclusive:
        labels_B_xyz = target_B_C_xyz[:, 0].long()
        if ignore_label is None:
            return labels_B_xyz, torch.ones_like(labels_B_xyz, dtype=torch.bool)
        return labels_B_xyz, labels_B_xyz != ignore_label
    if ignore_label is None:
        return target_B_C_xyz.float(), torch.ones_like(target_B_C_xyz[:, 0], dtype=torch.bool)
    return target_B_C_xyz[:, :-1].float(), ~target_B_C_xyz[:, -1].bool()
