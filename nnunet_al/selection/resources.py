"""What a selection may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _keep_silent(_: str) -> None:
    pass


@dataclass(frozen=True)
class Resources:
    """What a selection may use; memory changes no batch, and devices differ in last digits only.

    Attributes
    ----------
    device : where similarities are computed: "cpu", "cuda" or "mps"
    memory : bytes that may be taken; None where nobody knows
    announce : is told in one sentence what will be needed, before it is
    """

    device: str = "cpu"
    memory: int | None = None
    announce: Callable[[str], None] = _keep_silent
