"""The weight gradient of one convolution for each sample: its input correlated with the gradient of its output."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import nn

from nnunet_al.errors import ModelError

TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, *TRANSPOSED)


def layer_gradient(
    layer: nn.Module, input_B_I_xyz: torch.Tensor, output_gradient_B_O_xyz: torch.Tensor
) -> torch.Tensor:
    """Return ∂L_b/∂weight, (B, \\*weight.shape), of a 2d or 3d (transposed) convolution with any stride and dilation.

    For a kernel offset k, ∂L/∂w[o, i, k] = Σ_x g[o, x] · a[i, stride · x + dilation · k - padding], a the input and
    g the output's gradient: one batched matrix product for each k. A transposed convolution swaps a and g.
    """
    if isinstance(layer, TRANSPOSED):
        fine, coarse = output_gradient_B_O_xyz, input_B_I_xyz
    else:
        fine, coarse = input_B_I_xyz, output_gradient_B_O_xyz
    padding = [width for axis in reversed(layer.padding) for width in (axis, axis)]
    fine = F.pad(fine, padding) if any(padding) else fine
    sizes, coarse_B_P_X = coarse.shape[2:], coarse.flatten(2)
    result = fine.new_empty(len(fine), coarse.shape[1], fine.shape[1], *layer.kernel_size)
    for offset in product(*map(range, layer.kernel_size)):
        view = tuple(
            slice(o * d, o * d + s * (n - 1) + 1, s)
            for o, d, s, n in zip(offset, layer.dilation, layer.stride, sizes, strict=True)
        )
        result[(..., *offset)] = torch.bmm(coarse_B_P_X, fine[(..., *view)].flatten(2).transpose(1, 2))
    return result


def refuse_unsupported(name: str, layer: nn.Module) -> None:
    """Raise ModelError for a layer that `layer_gradient` does not cover: groups, or padding that is not zeros."""
    if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ModelError(
            f"Layer {name} has groups or a padding other than a number of zeros, which has no gradient of each region: "
            "choose a strategy that needs no gradients or another network."
        )
