"""Save work on the decoder: compute what all sampled sub-networks share once, or no gradient of the skips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from torch import nn
from torch.nn.grad import conv2d_input, conv3d_input

from nnunet_al.scoring.dropout import DropoutActivation, holds_dropout

Pair = tuple[torch.Tensor, torch.Tensor]


@contextmanager
def shared_skips(network: nn.Module) -> Iterator[None]:
    """Cache the decoder's stages before the first dropout, and what skips contribute after, inside the ``with`` block.

    A stage of nnU-Net's decoder starts with a convolution of the upsampled features x concatenated with the skip s.
    Convolutions are linear: W * [x, s] = W_x * x + W_s * s, and where no dropout precedes the skip, the second term,
    half of the work, is the same in all passes. As in `prefix.shared_prefix` a skip is recognised by identity, so
    callers must not write into it. Outputs differ by rounding from those of the undivided convolution. Other decoders
    than nnU-Net's are not changed. Of several outputs (deep supervision) the one of full resolution is returned.
    """
    decoder: Any = getattr(network, "decoder", None)
    differ = any(isinstance(part, DropoutActivation) for part in _above_bottleneck(network))
    readers = {} if differ else _channels_below(decoder)
    # a result is kept where a norm follows: an activation alone would write into it
    normed = {stage.convs[0].conv for stage in decoder.stages if hasattr(stage.convs[0], "norm")} if readers else {}
    splits = {layer: _Split(layer, below, layer in normed) for layer, below in readers.items()}
    if decoder is None or not splits:
        yield
        return
    for convolution, split in splits.items():
        convolution.forward = split
    decoder.forward = _Decode(decoder)
    try:
        yield
    finally:
        for module in (decoder, *splits):
            del module.forward  # restores the method of the class


@contextmanager
def constant_skips(network: nn.Module) -> Iterator[None]:
    """Leave out the gradients of the skips inside the ``with`` block, half of those of the convolutions that read them.

    For callers that need no gradient of the encoder. Outputs are bitwise the same. Other decoders than nnU-Net's are
    not changed.
    """
    readers = _channels_below(getattr(network, "decoder", None))
    for convolution, channels_below in readers.items():
        convolution.forward = partial(_forward_below, convolution, channels_below)
    try:
        yield
    finally:
        for convolution in readers:
            del convolution.forward  # restores the method of the class


def _forward_below(convolution: nn.Conv2d | nn.Conv3d, channels: int, pair_B_C_xyz: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = _GradientBelow.apply(pair_B_C_xyz[:, :channels], pair_B_C_xyz.detach(), convolution)
    return result


class _GradientBelow(torch.autograd.Function):
    """A convolution of a concatenated pair whose gradient is that of the first of the two."""

    @staticmethod
    def forward(ctx: Any, below: torch.Tensor, pair: torch.Tensor, convolution: nn.Conv2d | nn.Conv3d) -> torch.Tensor:
        ctx.shape, ctx.convolution = below.shape, convolution
        result: torch.Tensor = convolution._conv_forward(pair, convolution.weight, convolution.bias)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        layer = ctx.convolution
        weight = layer.weight.detach()[:, : ctx.shape[1]].contiguous()
        of_input = conv2d_input if weight.ndim == 4 else conv3d_input
        return of_input(ctx.shape, weight, gradient, layer.stride, layer.padding, layer.dilation), None, None


def _above_bottleneck(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that compute the skips: with dropout among them, the skips differ between passes."""
    for stage in list(getattr(getattr(network, "encoder", None), "stages", []))[:-1]:
        yield from stage.modules()


class _Decode:
    """`UNetDecoder.forward` with a pair of tensors instead of their concatenation."""

    def __init__(self, decoder: nn.Module) -> None:
        self._decoder = decoder
        self._without_dropout = sum(1 for _ in takewhile(lambda stage: not holds_dropout(stage), decoder.stages))
        self._bottleneck: torch.Tensor | None = None
        self._shared: torch.Tensor | None = None

    def __call__(self, skips: Sequence[torch.Tensor]) -> torch.Tensor:
        decoder = self._decoder
        steps = list(zip(decoder.transpconvs, decoder.stages, reversed(skips[:-1]), strict=True))
        first = min(self._without_dropout, len(steps) - 1)
        if self._shared is None or skips[-1] is not self._bottleneck:
            x_B_C_xyz = skips[-1]
            for upsampling, stage, skip in steps[:first]:
                x_B_C_xyz = stage((upsampling(x_B_C_xyz), skip))
            self._bottleneck, self._shared = skips[-1], steps[first][0](x_B_C_xyz)
        x_B_C_xyz = steps[first][1]((self._shared, steps[first][2]))
        for upsampling, stage, skip in steps[first + 1 :]:
            x_B_C_xyz = stage((upsampling(x_B_C_xyz), skip))
        logits_B_C_xyz: torch.Tensor = decoder.seg_layers[-1](x_B_C_xyz)
        return logits_B_C_xyz


class _Split:
    """A convolution of the concatenated pair, computed as a sum of two convolutions."""

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d, channels_below: int, is_kept: bool) -> None:
        self._convolution = convolution
        self._is_kept = is_kept
        layout = torch.channels_last if convolution.weight.ndim == 4 else torch.channels_last_3d
        kept = layout if convolution.weight.is_contiguous(memory_format=layout) else torch.contiguous_format
        below, beside = convolution.weight.detach().tensor_split([channels_below], dim=1)
        self._below, self._beside = below.contiguous(memory_format=kept), beside.contiguous(memory_format=kept)
        self._pair: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
        self._from_skip: torch.Tensor | None = None
        self._result: torch.Tensor | None = None

    def __call__(self, pair: Pair) -> torch.Tensor:
        below, skip = pair
        below_before, skip_before = self._pair
        if self._from_skip is None or skip is not skip_before:
            self._from_skip = self._convolution._conv_forward(skip, self._beside, self._convolution.bias)
        elif self._result is not None and below is below_before:  # of the first stage with dropout
            return self._result
        result: torch.Tensor = self._convolution._conv_forward(below, self._below, None).add_(self._from_skip)
        self._pair = pair
        self._result = result if self._is_kept else None
        return result


def _channels_below(decoder: nn.Module | None) -> dict[nn.Module, int]:
    """Return the first convolution of each stage with the channels that precede those of the skip in its input.

    Empty for another kind of decoder than nnU-Net's.
    """
    try:
        from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
    except ImportError:
        return {}
    if decoder is None or type(decoder) is not UNetDecoder:
        return {}
    channels = {}
    for upsampling, stage in zip(decoder.transpconvs, decoder.stages, strict=True):
        first = next(module for module in stage.modules() if isinstance(module, (nn.Conv2d, nn.Conv3d)))
        if first.groups != 1 or first.in_channels != 2 * upsampling.out_channels:
            return {}
        channels[first] = upsampling.out_channels
    return channels
