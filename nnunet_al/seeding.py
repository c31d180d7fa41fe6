"""One random generator for each purpose, so that the draws for one purpose never change those for another."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, round_number: int, purpose: str) -> np.random.Generator:
    """Return the generator of one purpose (for example ``"initial batch"``) in one round of a campaign.

    The stream depends on the three arguments only.
    """
    return np.random.default_rng(derive_seed(seed, round_number, purpose))


def derive_seed(seed: int, *parts: int | str) -> int:
    """Derive a 32-bit seed, for libraries that take an integer, from the campaign's seed and the purpose."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
