"""Precision and shape of network outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def full_resolution(output: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the logits at full resolution: the first entry where deep supervision makes the output a list."""
    return output if isinstance(output, torch.Tensor) else output[0]


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Return half precision as float32; float32 and float64 are not changed."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def double(values: torch.Tensor) -> torch.Tensor:
    """Return the values as float64, on the CPU where the device (MPS) has no float64."""
    return (values.cpu() if values.device.type == "mps" else values).to(torch.float64)
