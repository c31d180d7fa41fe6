"""The same numbers at other places in memory, and products whose last digits depend on the place, as some CPUs' do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

OFFSETS = range(16)
"""Steps of 4 bytes that make up 64, the longest vector that a CPU reads at once."""


def tensor_at(values: torch.Tensor, offset: int) -> torch.Tensor:
    """Return a contiguous copy that begins ``offset`` numbers behind a multiple of 64 bytes."""
    step = 64 // values.element_size()
    room = torch.empty(values.numel() + 2 * step, dtype=values.dtype)
    start = -(room.data_ptr() // values.element_size()) % step + offset
    copy = room[start : start + values.numel()].view(values.shape).copy_(values)
    assert copy.data_ptr() % 64 == offset * values.element_size() % 64
    return copy


def array_at(values: np.ndarray, offset: int) -> np.ndarray:
    return tensor_at(torch.from_numpy(np.ascontiguousarray(values)), offset).numpy()


def bits(values: torch.Tensor | np.ndarray) -> bytes:
    array = values.detach().reshape(-1).view(torch.uint8).numpy() if isinstance(values, torch.Tensor) else values
    return np.ascontiguousarray(array).tobytes()


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def round_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each of torch's matrix products add an error that depends on where its rows begin."""

    def disturbed(product: torch.Tensor, *factors: torch.Tensor) -> torch.Tensor:
        errors = sum(_distance(factor) for factor in factors)
        return product * (1 + 1e-3 * errors.view(-1, *[1] * (product.ndim - 1)).to(product.dtype))

    bmm, linear, tensordot = torch.bmm, torch.nn.functional.linear, torch.tensordot
    monkeypatch.setattr(torch, "bmm", lambda a, b: disturbed(bmm(a, b), a, b))
    monkeypatch.setattr(torch.nn.functional, "linear", lambda x, *layer: disturbed(linear(x, *layer), x))
    monkeypatch.setattr(torch, "tensordot", lambda a, b, dims: disturbed(tensordot(a, b, dims), a))

    def mm(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return out.copy_(disturbed(a @ b, a))

    monkeypatch.setattr(torch, "mm", mm)


def _distance(values: torch.Tensor) -> torch.Tensor:
    """How many bytes behind a multiple of 64 each of ``values[0], values[1], ...`` begins."""
    return torch.tensor([row.data_ptr() % 64 for row in values.unbind()], dtype=torch.float64)
