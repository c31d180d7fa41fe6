"""Voxel maps of uncertainty, from posterior samples.

All functions take ``probs_T_B_C_xyz`` (T samples, B windows, C classes or heads) and return float32. ``exclusive=True``
means softmax classes with the background in channel 0; ``exclusive=False`` means nnU-Net's region-based sigmoid heads,
where each head is a separate Bernoulli variable and there is no background channel. Logarithms are natural (nats) and 0
ln 0 = 0. A bar over p is the mean over the samples.
"""

from __future__ import annotations

import torch

from nnunet_al.scoring.tensors import at_least_float32


def entropy(probs_T_B_C_xyz: torch.Tensor, exclusive: bool = True) -> torch.Tensor:
    """Entropy of the mean prediction, H(p̄) = -Σ_c p̄_c ln p̄_c, in nats; heads: sum of their binary entropies.

    With one deterministic pass (T = 1) this is maximum entropy (Shannon 1948). Returns B_xyz.
    """
    return _entropy(_mean(probs_T_B_C_xyz), exclusive, dim=1).float()


def mc_dropout(probs_T_B_C_xyz: torch.Tensor, exclusive: bool = True) -> torch.Tensor:
    """Predictive entropy H(p̄) over T dropout passes (Gal and Ghahramani 2016), in nats. Returns B_xyz."""
    return entropy(probs_T_B_C_xyz, exclusive)


def least_confidence(probs_T_B_C_xyz: torch.Tensor, exclusive: bool = True) -> torch.Tensor:
    """1 - max_c p̄_c; heads: mean over the heads of min(p̄, 1 - p̄). Returns B_xyz."""
    mean_B_C_xyz = _mean(probs_T_B_C_xyz)
    if exclusive:
        return (1.0 - mean_B_C_xyz.amax(1)).float()
    return torch.minimum(mean_B_C_xyz, 1.0 - mean_B_C_xyz).mean(1).float()


def margin(probs_T_B_C_xyz: torch.Tensor, exclusive: bool = True) -> torch.Tensor:
    """1 - (p̄_(1) - p̄_(2)), largest minus second largest over classes; heads: mean of 1 - |2 p̄ - 1|.

    Returns B_xyz: 1 where two classes tie, 0 where the network is certain.
    """
    mean_B_C_xyz = _mean(probs_T_B_C_xyz)
    if exclusive:
        top_B_2_xyz = mean_B_C_xyz.topk(2, dim=1).values
        return (1.0 - (top_B_2_xyz[:, 0] - top_B_2_xyz[:, 1])).float()
    return (1.0 - (2.0 * mean_B_C_xyz - 1.0).abs()).mean(1).float()


def mean_std(probs_T_B_C_xyz: torch.Tensor, exclusive: bool = True) -> torch.Tensor:
    """Mean over classes (heads) of the standard deviation over t of p_t(c) (Kendall et al. 2017).

    The divisor is T, so T = 1 gives 0. The code released with the USIM paper computes a variance instead. The
    background counts as a class. Returns B_xyz.
    """
    return at_least_float32(probs_T_B_C_xyz).std(0, correction=0).mean(1).float()


def bald(probs_T_B_C_xyz: torch.Tensor, exclusive: bool = True) -> torch.Tensor:
    """Mutual information of prediction and weights, H(p̄) - mean_t H(p_t), in nats (Gal et al. 2017).

    This is also the Jensen-Shannon divergence of T equally weighted samples. Never negative (rounding is cut off);
    identical samples, and so T = 1, give exactly 0; heads: sum over the heads. Returns B_xyz.
    """
    probs = at_least_float32(probs_T_B_C_xyz)
    entropy_T_B_xyz = _entropy(probs, exclusive, dim=2)
    return (_entropy(_mean(probs), exclusive, dim=1) - _mean(entropy_T_B_xyz)).clamp_min(0.0).float()


def class_variance(probs_T_B_C_xyz: torch.Tensor, exclusive: bool = True) -> torch.Tensor:
    """U_c: variance over t of p_t(c), for each foreground class (USIM, appendix A; divisor T, so T = 1 gives 0).

    Returns B_F_xyz: without the background's channel for exclusive classes, all heads otherwise.
    """
    probs = at_least_float32(probs_T_B_C_xyz)
    return probs[:, :, 1 if exclusive else 0 :].var(0, correction=0).float()


def class_entropy(probs_T_B_C_xyz: torch.Tensor, exclusive: bool = True) -> torch.Tensor:
    """p̄_c · H(p̄) for each foreground class, in nats, with H as in `entropy` (nnActive, class-balanced entropy).

    Returns B_F_xyz: without the background's channel for exclusive classes, all heads otherwise. Heads share one H, the
    sum of the binary entropies of all heads.
    """
    mean_B_C_xyz = _mean(probs_T_B_C_xyz)
    entropy_B_1_xyz = _entropy(mean_B_C_xyz, exclusive, dim=1).unsqueeze(1)
    return (mean_B_C_xyz[:, 1 if exclusive else 0 :] * entropy_B_1_xyz).float()


def foreground_probability(probs_T_B_C_xyz: torch.Tensor, exclusive: bool = True) -> torch.Tensor:
    """1 - p̄(background); heads: the largest p̄, a lower bound of the probability of any foreground. Returns B_xyz."""
    mean_B_C_xyz = _mean(probs_T_B_C_xyz)
    return (1.0 - mean_B_C_xyz[:, 0] if exclusive else mean_B_C_xyz.amax(1)).float()


def _mean(probs_T_B_C_xyz: torch.Tensor) -> torch.Tensor:
    """Mean over the samples, exact where all are equal: a plain mean of equal numbers may differ from them."""
    probs = at_least_float32(probs_T_B_C_xyz)
    return probs[0] + (probs - probs[0]).mean(0)


def _entropy(probs: torch.Tensor, exclusive: bool, dim: int) -> torch.Tensor:
    """Entropy over the classes of axis `dim`, or the sum of binary entropies of the heads there."""
    terms = torch.special.entr(probs)
    if not exclusive:
        terms = terms + torch.special.entr(1.0 - probs)
    return terms.sum(dim)
