"""The diagonal of the Fisher information, and the similarity of regions that it defines.

USIM, appendix A: F = mean over samples of the squared gradients of the log-likelihood of the network's own decision,
S_uq = g_uᵀ (F + λ)⁻¹ g_q over parameters drawn with probability proportional to F.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from nnunet_al.errors import ModelError


def sample_parameters(
    fisher: Mapping[str, torch.Tensor], count: int, rng: np.random.Generator
) -> dict[str, npt.NDArray[np.int64]]:
    """Draw parameters without replacement with probability proportional to F (USIM: 10 000 of them).

    They are drawn in one step: the `count` smallest of E_j / F_j, E_j ~ Exp(1), are distributed as successive draws
    (Efraimidis and Spirakis 2006). Where fewer than `count` parameters have F > 0, all of those are taken, and the rest
    uniformly from the others (all uniformly where F is 0 everywhere). Where there are fewer parameters than `count`,
    all are taken.

    Parameters
    ----------
    fisher
        F for each layer, of the weight's shape.
    count
        number of parameters d.
    rng
        the generator of this purpose.

    Returns
    -------
    dict of np.ndarray
        for each layer, in the order of `fisher`, sorted indices into its flattened weight (int64, possibly empty).

    Raises ModelError if F is not finite, as after a training that diverged.
    """
    values_P = np.concatenate([tensor.detach().cpu().numpy().astype(np.float64).ravel() for tensor in fisher.values()])
    if not np.isfinite(values_P).all():
        raise ModelError(
            "The Fisher information holds values that are not finite: the model diverged, train the round again."
        )
    races_P = np.log(rng.standard_exponential(len(values_P)))  # logarithms: E / F overflows where F is tiny
    positive_P = values_P > 0
    races_P[positive_P] -= np.log(values_P[positive_P])
    positives, zeros = np.flatnonzero(positive_P), np.flatnonzero(~positive_P)
    n_positive = min(count, len(positives))
    chosen = np.sort(
        np.concatenate([_smallest(races_P, positives, n_positive), _smallest(races_P, zeros, count - n_positive)])
    )
    sizes = [tensor.numel() for tensor in fisher.values()]
    ends = np.cumsum(sizes)
    parts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    return {name: part - (end - size) for name, part, end, size in zip(fisher.keys(), parts, ends, sizes, strict=True)}


def _smallest(keys_P: npt.NDArray[np.float64], indices: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return the `count` indices with the smallest keys, unsorted; all where there are not more."""
    if count >= len(indices):
        return indices
    return indices[np.argpartition(keys_P[indices], count)[:count]]


def sampled_fisher(
    fisher: Mapping[str, torch.Tensor], entries: Mapping[str, npt.NDArray[np.int64]]
) -> npt.NDArray[np.float64]:
    """Return F of the sampled parameters, (d,) float64, in the order of `select_entries`."""
    parts = [fisher[name].detach().cpu().numpy().astype(np.float64).ravel()[part] for name, part in entries.items()]
    return np.concatenate(parts)


def damping(fisher_d: npt.NDArray[np.float64], factor: float = 1e-3) -> float:
    """Return λ = factor · mean of F over the sampled parameters (not in the paper, whose kernel is unbounded)."""
    return factor * float(np.mean(fisher_d))


def fisher_scale(fisher_d: npt.NDArray[np.float64], factor: float = 1e-3) -> npt.NDArray[np.float64]:
    """Return (F + λ)^(-1/2), (d,): scaled embeddings e = g · scale give S_uq = e_uᵀ e_q = g_uᵀ (F + λ)⁻¹ g_q.

    Where F is 0 for all sampled parameters (every gradient was 0), λ is 0 too and the scale is 1.
    """
    values_d = np.asarray(fisher_d, dtype=np.float64)
    if not values_d.any():
        return np.ones_like(values_d)
    return 1.0 / np.sqrt(values_d + damping(values_d, factor))
