"""The precision in which a network is computed while it is trained; its weights stay float32."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import nn


def compute_in(precision: str, network: nn.Module, device: torch.device) -> None:
    """Let the forward passes of ``network`` compute in ``precision``, in place; its state dict stays as it is.

    ``precision`` is one of ``TrainerSettings``. nnU-Net trains under automatic mixed precision on a GPU and in float32
    elsewhere, so that only "half" on a CPU (bfloat16, whose exponents are those of float32: no loss has to be scaled)
    and "float32" on a GPU change anything. Outputs are float32, and with them the loss.
    """
    if precision == "half" and device.type == "cpu":
        cast = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    elif precision == "float32" and device.type == "cuda":
        cast = partial(torch.autocast, "cuda", enabled=False)
        torch.backends.cudnn.allow_tf32 = False  # for the backward pass, too; torch's default rounds to 10 bits
    else:
        return
    network.forward = partial(_under, cast, network.forward)


def _under(cast: Callable[[], AbstractContextManager[Any]], stock: Callable[..., Any], x_B_C_xyz: torch.Tensor) -> Any:
    with cast():
        output = stock(x_B_C_xyz)
    return output.float() if isinstance(output, torch.Tensor) else [scale.float() for scale in output]
