"""Device and memory for a selection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True)
class Resources:
    """Device and memory for a selection; memory changes no batch, and devices differ in last digits only.

    Attributes
    ----------
    device : device of the similarities: "cpu", "cuda" or "mps"
    memory : free bytes; None where unknown
    announce : called with one sentence about the memory that will be needed, in advance
    """

    device: str = "cpu"
    memory: int | None = None
    announce: Callable[[str], None] = _silent
