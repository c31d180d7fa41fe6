"""Embeddings that are hard on a bound of rounding errors."""

from __future__ import annotations

import numpy as np


def embeddings(kind: str, count: int, dimensions: int, seed: int = 0) -> np.ndarray:
    return KINDS[kind](np.random.default_rng(seed), (count, dimensions))


def _normal(rng, shape, scale=1.0, centre=0.0, stored=np.float32) -> np.ndarray:
    return (rng.normal(size=shape) * scale + centre).astype(stored)


def _heavy_tails(rng, shape) -> np.ndarray:
    return (rng.normal(size=shape) * np.exp(4 * rng.normal(size=(shape[0], 1)))).astype(np.float32)


def _low_rank(rng, shape) -> np.ndarray:
    wide = rng.normal(size=(shape[0], 5)) * rng.gamma(0.5, size=(shape[0], 1))
    return (wide @ rng.normal(size=(5, shape[1])) + 1e-3 * rng.normal(size=shape)).astype(np.float32)


def _duplicates(rng, shape) -> np.ndarray:
    distinct = rng.normal(size=(max(shape[0] // 5, 1), shape[1])).astype(np.float32)
    return distinct[rng.integers(0, len(distinct), size=shape[0])]


def _nearly_duplicates(rng, shape) -> np.ndarray:
    rows = _duplicates(rng, shape)
    return np.where(rng.random(shape) < 0.1, np.nextafter(rows, np.float32(9)), rows)


def _levels(rng, shape) -> np.ndarray:
    return rng.integers(-1, 2, size=shape).astype(np.float32)


def _some_zero(rng, shape) -> np.ndarray:
    return _normal(rng, shape, 1e-20) * (rng.random((shape[0], 1)) < 0.5)


def _all_scales(rng, shape) -> np.ndarray:
    return (rng.normal(size=shape) * 10.0 ** rng.integers(-44, 37, size=(shape[0], 1))).astype(np.float32)


def _all_scales_64(rng, shape) -> np.ndarray:
    return rng.normal(size=shape) * 10.0 ** rng.integers(-320, 150, size=(shape[0], 1))


KINDS = {
    "normal": _normal,
    "positive": lambda rng, shape: np.abs(_normal(rng, shape)),
    "heavy tails": _heavy_tails,
    "low rank": _low_rank,
    "duplicates": _duplicates,
    "nearly duplicates": _nearly_duplicates,
    "levels": _levels,
    "some zero": _some_zero,
    "zero": lambda rng, shape: np.zeros(shape, dtype=np.float32),
    "1e-20": lambda rng, shape: _normal(rng, shape, 1e-20),
    "1e-40": lambda rng, shape: _normal(rng, shape, 1e-40),
    "1e36": lambda rng, shape: _normal(rng, shape, 1e36),
    "all scales": _all_scales,
    "far": lambda rng, shape: _normal(rng, shape, 1.0, 30.0),
    "very far": lambda rng, shape: _normal(rng, shape, 1.0, 1e7),
    "very far, tiny": lambda rng, shape: _normal(rng, shape, 1e-27, 1e-20),
    "float64": lambda rng, shape: _normal(rng, shape, stored=np.float64),
    "float64 very far": lambda rng, shape: _normal(rng, shape, 1e-7, 1e8, np.float64),
    "float64 1e-160": lambda rng, shape: _normal(rng, shape, 1e-160, stored=np.float64),
    "float64 1e150": lambda rng, shape: _normal(rng, shape, 1e150, stored=np.float64),
    "float64 all scales": _all_scales_64,
    "float16": lambda rng, shape: _normal(rng, shape, stored=np.float16),
    "integers": lambda rng, shape: rng.integers(-9, 9, size=shape),
}
