"""Single entries of per-sample weight gradients, without computing the whole gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nnunet_al.scoring.correlation import COPY, LayerGradient, kernel_offsets


def layer_entries(
    layer: nn.Module, uses: Sequence[LayerGradient], indices_n: npt.NDArray[np.int64], like_B: torch.Tensor
) -> torch.Tensor:
    """Return the entries of a layer's gradient, (B, n), for n >= 1 flat indices into its weight, in any order.

    Entry [p, i, k] is the dot product of one channel of the output's gradient with one shifted channel of the input.
    For each offset k of the kernel with R rows p and C columns i among the indices, either R · C products are computed,
    after copying those R + C channels, or all P · I, whichever costs less by these counts.

    Parameters
    ----------
    layer
        the convolution.
    uses
        its gradients, which are summed; without any the result is 0.
    indices_n
        into the flattened weight.
    like_B
        gives the number of samples, precision and device of the result where `uses` is empty.
    """
    if not uses:
        return like_B.new_zeros(len(like_B), len(indices_n))
    width = layer.weight.shape[1]
    positions_n, offsets_n = np.divmod(indices_n, kernel_offsets(layer))
    order_n = np.argsort(offsets_n, kind="stable")
    picked = []
    for k in np.unique(offsets_n).tolist():
        rows, columns = np.divmod(positions_n[order_n][offsets_n[order_n] == k], width)
        picked.append(sum(_of_offset(use, k, rows, columns, layer.weight.shape) for use in uses))
    return torch.cat(picked, 1)[:, _indices(np.argsort(order_n), like_B.device)]


def _of_offset(
    use: LayerGradient, k: int, rows_m: npt.NDArray[np.int64], columns_m: npt.NDArray[np.int64], shape: Sequence[int]
) -> torch.Tensor:
    (rows_R, row_m), (columns_C, column_m) = (np.unique(some, return_inverse=True) for some in (rows_m, columns_m))
    if len(rows_R) * len(columns_C) + COPY * (len(rows_R) + len(columns_C)) < shape[0] * shape[1]:
        values_B_R_C = use.block(k, rows_R.tolist(), columns_C.tolist())
        flat_m = row_m * len(columns_C) + column_m
    else:
        values_B_R_C = use.part(k)
        flat_m = rows_m * shape[1] + columns_m
    return values_B_R_C.flatten(1)[:, _indices(flat_m, values_B_R_C.device)]


def _indices(indices: npt.NDArray[np.int64], device: torch.device) -> torch.Tensor:
    return torch.as_tensor(indices, dtype=torch.long, device=device)
