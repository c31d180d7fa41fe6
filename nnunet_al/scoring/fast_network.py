"""A network arranged for many passes over a pool: its number type, the layout of its weights, and quicker norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import nn

PRECISIONS = ("float32", "half")

_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
# from here on torch sums up channels that lie side by side together, below one after the other, 20 times slower
_MANY_VOXELS = 1024


def half_type(device: torch.device) -> torch.dtype:
    """Return what half precision means on a device: bfloat16 on a CPU, which multiplies nothing shorter, else float16.

    float16 has three more bits for digits; on a GPU nnU-Net predicts in it too, under autocast.
    """
    return torch.bfloat16 if device.type == "cpu" else torch.float16


def fast_network(network: nn.Module, precision: str = "float32") -> nn.Module:
    """Arrange a network, in place, for many passes, and return it; gradients are taken in float32.

    * ``"half"``: the weights become `half_type`. Sums inside convolutions and norms stay float32, as the libraries do
      them, and so do probabilities, maps and scores. On a CPU the channels of a voxel lie side by side, which is what
      its matrix instructions read.
    * On a CPU instance norms are computed as group norms of one channel each: the same formula, which torch computes
      several times faster. Float32 outputs differ by rounding, as they do between batch sizes.

    State dict keys stay as they are. `precision` is one of `PRECISIONS`.
    """
    assert precision in PRECISIONS, precision
    device = next(network.parameters()).device
    if precision == "half":
        network.to(half_type(device))
    if device.type != "cpu":
        return network
    if precision == "half":
        for weight in network.parameters():
            if weight.ndim in _CHANNELS_LAST:
                weight.data = weight.data.contiguous(memory_format=_CHANNELS_LAST[weight.ndim])
    for module in network.modules():
        if isinstance(module, _INSTANCE_NORMS) and not module.track_running_stats:
            module.forward = partial(_instance_norm, module, module.forward)
        elif precision == "half" and isinstance(
            module, nn.AvgPool3d
        ):  # in residual encoders; torch has none for half precision on a CPU
            module.forward = partial(_in_float32, module.forward)
    return network


def exact_convolutions() -> AbstractContextManager[None]:
    """Let a GPU convolve float32 as float32, without TensorFloat-32, and each time in the same way, within the block.

    On a CPU nothing changes.
    """
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def as_weights(network: nn.Module, data_B_C_xyz: torch.Tensor) -> torch.Tensor:
    """Return windows in the number type of the network's weights: the same tensor where it has that already."""
    weight = next(network.parameters(), None)
    return data_B_C_xyz if weight is None else data_B_C_xyz.to(weight.dtype)


def _in_float32(stock: Callable[[torch.Tensor], torch.Tensor], x_B_C_xyz: torch.Tensor) -> torch.Tensor:
    return stock(x_B_C_xyz.float()).to(x_B_C_xyz.dtype)


def _instance_norm(
    module: nn.InstanceNorm3d, stock: Callable[[torch.Tensor], torch.Tensor], x_B_C_xyz: torch.Tensor
) -> torch.Tensor:
    if x_B_C_xyz.is_contiguous() or math.prod(x_B_C_xyz.shape[2:]) >= _MANY_VOXELS:
        return F.group_norm(x_B_C_xyz, x_B_C_xyz.shape[1], module.weight, module.bias, module.eps)
    return stock(x_B_C_xyz)
