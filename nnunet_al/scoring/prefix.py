"""Compute the layers before the first dropout once, because they are equal in all sampled sub-networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile

import torch
from torch import nn

from nnunet_al.scoring.dropout import holds_dropout


@contextmanager
def shared_prefix(network: nn.Module) -> Iterator[None]:
    """Cache the outputs of the encoder's leading stages without dropout, inside the ``with`` block.

    A stage recognises a repeated input by identity, so callers must pass the same tensor again and must not write into
    it; another tensor is computed as usual. Results are bitwise the same.
    """
    stages = list(takewhile(lambda stage: not holds_dropout(stage), _encoder_stages(network)))
    for stage in stages:
        stage.forward = _CachedForward(stage.forward)
    try:
        yield
    finally:
        for stage in stages:
            del stage.forward  # restores the method of the class


class _CachedForward:
    def __init__(self, forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._forward = forward
        self._input: torch.Tensor | None = None
        self._output: torch.Tensor | None = None

    def __call__(self, x_B_C_xyz: torch.Tensor) -> torch.Tensor:
        if self._output is None or x_B_C_xyz is not self._input:
            self._input, self._output = x_B_C_xyz, self._forward(x_B_C_xyz)
        return self._output


def _encoder_stages(network: nn.Module) -> list[nn.Module]:
    encoder = getattr(network, "encoder", None)
    stem = getattr(encoder, "stem", None)
    return [*([stem] if isinstance(stem, nn.Module) else []), *getattr(encoder, "stages", [])]
