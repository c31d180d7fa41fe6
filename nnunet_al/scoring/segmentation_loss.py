"""nnU-Net's loss, Dice + cross-entropy, per sample: against labels, or against the network's own decision.

nnU-Net averages its loss over the batch. Here each sample gets the value of nnU-Net's loss (``DC_and_CE_loss``,
``DC_and_BCE_loss`` with an ignore label, ``batch_dice`` off) for a batch of this sample only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it

from nnunet_al.scoring.posterior import head_probabilities
from nnunet_al.scoring.tensors import at_least_float32

_SMOOTH = 1e-5  # nnU-Net's, in voxels


def segmentation_loss(
    logits_B_C_xyz: torch.Tensor, target: torch.Tensor, weight_B_xyz: torch.Tensor, exclusive: bool = True
) -> torch.Tensor:
    """L_b = mean cross-entropy over the counted voxels - mean soft Dice over the classes, per sample.

    In both terms a voxel counts if its weight is positive, whatever the size of the weight. Logits and target at the
    other voxels (an ignore label, for example) have no effect and get no gradient. With p the probability, y the target
    and sums over the counted voxels,

    Dice_c = (2 Σ p_c y_c + s) / (Σ p_c + Σ y_c + s), s = 1e-5 voxels: without y_c and p_c it is 1.

    * Exclusive classes: p by softmax, cross-entropy in nats, Dice over the foreground classes.
    * Heads: p by sigmoid, binary cross-entropy in nats SUMMED over the heads, Dice over all heads. nnU-Net computes the
      sum where the dataset has an ignore label; without one it takes the mean over the heads.

    Parameters
    ----------
    logits_B_C_xyz
        at full resolution; exclusive classes: background first, C >= 2.
    target
        exclusive classes: integer labels (B, xyz), 0 <= label < C where counted; heads: (B, C, xyz) of 0 and 1 or bool.
        It is a constant for the gradient.
    weight_B_xyz
        numbers or bool; counted where > 0.
    exclusive
        softmax classes, or sigmoid heads.

    Returns
    -------
    torch.Tensor
        loss_B, differentiable, in the precision of the logits, at least float32. A sample without any counted voxel has
        loss 0 and gradient 0 (nnU-Net: -1).
    """
    counted_B_1_xyz = (weight_B_xyz > 0).unsqueeze(1)
    # filled and not multiplied: voxels that do not count may be NaN or hold an invalid label
    logits = at_least_float32(logits_B_C_xyz).masked_fill(~counted_B_1_xyz, 0.0)
    if exclusive:
        assert logits.shape[1] > 1, "exclusive classes are at least background and one more"
        assert target.shape == weight_B_xyz.shape, (target.shape, weight_B_xyz.shape)
        labels_B_xyz = target.detach().long().masked_fill(~counted_B_1_xyz.squeeze(1), 0)
        entropy_B_xyz = F.cross_entropy(logits, labels_B_xyz, reduction="none")
        classes = torch.arange(1, logits.shape[1], device=logits.device).reshape(-1, *[1] * (logits.ndim - 2))
        truth = labels_B_xyz.unsqueeze(1) == classes
        probs = head_probabilities(logits, exclusive)[:, 1:]
    else:
        assert target.shape == logits.shape, (logits.shape, target.shape)
        truth = target.detach().bool() & counted_B_1_xyz
        # binary cross-entropy; torch's own has a sigmoid in its gradient, see `head_probabilities`
        entropy_B_xyz = -F.logsigmoid(torch.where(truth, logits, -logits)).sum(1)
        probs = head_probabilities(logits, exclusive)
    voxels_B = counted_B_1_xyz.flatten(1).sum(1)
    entropy_B = (entropy_B_xyz * counted_B_1_xyz.squeeze(1)).flatten(1).sum(1) / voxels_B.clamp_min(1)
    loss_B = entropy_B - _soft_dice(probs * counted_B_1_xyz, truth).mean(1)
    return torch.where(voxels_B > 0, loss_B, torch.zeros_like(loss_B))


def self_loss(logits_B_C_xyz: torch.Tensor, weight_B_xyz: torch.Tensor, exclusive: bool = True) -> torch.Tensor:
    """Return loss_B: `segmentation_loss` against the network's own decision, a constant for the gradient.

    The decision is argmax of exclusive classes, and p > 0.5 for each head otherwise. The gradient of this loss is the
    embedding of BADGE (Ash et al., ICLR 2020) for nnU-Net; it is large where the network is uncertain.
    """
    logits = logits_B_C_xyz.detach()
    decision = logits.argmax(1) if exclusive else logits > 0
    return segmentation_loss(logits_B_C_xyz, decision, weight_B_xyz, exclusive)


def _soft_dice(probs_B_C_xyz: torch.Tensor, truth_B_C_xyz: torch.Tensor) -> torch.Tensor:
    both_B_C = (probs_B_C_xyz * truth_B_C_xyz).flatten(2).sum(2)
    either_B_C = probs_B_C_xyz.flatten(2).sum(2) + truth_B_C_xyz.flatten(2).sum(2)
    return (2 * both_B_C + _SMOOTH) / (either_B_C + _SMOOTH)
