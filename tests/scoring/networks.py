"""Tiny networks of the kinds that nnU-Net plans, and a plain one that is none of them."""

from __future__ import annotations

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

SPATIAL = {2: (16, 16), 3: (8, 8, 8)}


def unet(
    kind: str = "plain", dims: int = 2, classes: int = 3, deep: bool = False, seed: int = 0, stages: int = 3
) -> nn.Module:
    """Two input channels, two to four stages with strided and transposed convolutions, in-place LeakyReLU."""
    torch.manual_seed(seed)
    conv, norm = {2: (nn.Conv2d, nn.InstanceNorm2d), 3: (nn.Conv3d, nn.InstanceNorm3d)}[dims]
    arguments = {
        "input_channels": 2,
        "n_stages": stages,
        "features_per_stage": [4, 6, 8, 10][:stages],
        "conv_op": conv,
        "kernel_sizes": 3,
        "strides": [1, 2, 2, 2][:stages],
        "num_classes": classes,
        "n_conv_per_stage_decoder": 1,
        "conv_bias": True,
        "norm_op": norm,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "deep_supervision": deep,
    }
    if kind == "plain":
        return PlainConvUNet(n_conv_per_stage=2, **arguments)
    return ResidualEncoderUNet(n_blocks_per_stage=1, **arguments)


def images(count: int, dims: int = 2, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, *SPATIAL[dims], generator=generator, dtype=torch.float64).to(dtype)
