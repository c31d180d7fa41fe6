"""One random generator for each purpose, so that no draw depends on how many others were made before it."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, round_number: int, purpose: str) -> np.random.Generator:
    """Return the generator of one purpose (for example ``"initial batch"``) in one round of a campaign.

    The stream depends on nothing but its three arguments, so draws for one purpose never shift those for another.
    """
    return np.random.default_rng(derive_seed(seed, round_number, purpose))


def derive_seed(seed: int, *parts: int | str) -> int:
    """Derive a 32-bit seed, for libraries that take an integer, from the campaign's seed and what it is for."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
