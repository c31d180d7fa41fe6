"""A network prepared for fast inference over a pool: precision, memory layout of the weights, and faster norms."""

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
# with fewer voxels torch's group norm of a channels-last tensor is 20 times slower
_MANY_VOXELS = 1024


def half_type(device: torch.device) -> torch.dtype:
    """Return the type for half precision: bfloat16 on a CPU, the only fast half type there, else float16.

    float16 has three more bits of precision; on a GPU nnU-Net predicts in it too, under autocast.
    """
    return torch.bfloat16 if device.type == "cpu" else torch.float16


def fast_network(network: nn.Module, precision: str = "float32") -> nn.Module:
    """Prepare a network, in place, for fast inference, and return it; gradients need float32.

    * ``"half"``: the weights become `half_type`. The libraries accumulate inside convolutions and norms in float32;
      probabilities, maps and scores are float32 too. On a CPU the weights become channels-last, the layout of its
      matrix instructions.
    * On a CPU instance norms are computed as group norms of one channel each: the same formula, several times faster in
      torch. Float32 outputs differ by rounding, as they do between batch sizes.

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
    """Make float32 convolutions on a GPU deterministic and without TensorFloat-32, inside the ``with`` block.

    On a CPU nothing changes.
    """
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def as_weights(network: nn.Module, data_B_C_xyz: torch.Tensor) -> torch.Tensor:
    """Return windows in the precision of the network's weights, without a copy where they already have it."""
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
