"""Pools with everything that any selector works on."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from nnunet_al.strategies.candidates import Candidates

ARRAYS = [item.name for item in fields(Candidates) if item.name not in {"names_N", "cases_N", "query"}]
PER_REGION = [name for name in ARRAYS if name not in {"references_M_d", "taken_M_2"}]


def pool(count: int, seed: int = 0, classes: int = 3) -> Candidates:
    rng = np.random.default_rng(seed)
    order = rng.permutation(count)
    return Candidates(
        names_N=[f"case_{index // 5:02d}[{index % 5}:{index % 5 + 1}]" for index in order],
        scores_N=rng.gamma(0.5, size=count),
        foreground_voxels_N=rng.integers(0, 3, size=count),
        embeddings_N_d=rng.normal(size=(count, 12)).astype(np.float32),
        target_scores_N=rng.gamma(0.5, size=count) * rng.integers(0, 2, size=count),
        boundary_scores_N=rng.gamma(0.5, size=count),
        mean_scores_N=rng.gamma(0.5, size=count),
        class_scores_N_C=rng.gamma(0.5, size=(count, classes)),
        cases_N=[f"case_{index // 5:02d}" for index in order],
        references_M_d=rng.normal(size=(4, 12)).astype(np.float32),
        places_N_2=np.stack([order // 5, order % 5], axis=1),
        taken_M_2=np.array([[1, 7], [1, 9], [70, 0]]),
    )


def shuffled(candidates: Candidates, seed: int = 1) -> Candidates:
    order = np.random.default_rng(seed).permutation(len(candidates.names_N))
    return replace(
        candidates,
        names_N=[candidates.names_N[index] for index in order],
        cases_N=[candidates.cases_N[index] for index in order],
        **{name: getattr(candidates, name)[order] for name in PER_REGION},
    )


def read_only(candidates: Candidates) -> Candidates:
    for name in ARRAYS:
        getattr(candidates, name).setflags(write=False)
    return candidates


def degenerate(kind: str, count: int = 30) -> Candidates:
    candidates = pool(count)
    scores = ("scores_N", "target_scores_N", "boundary_scores_N", "mean_scores_N", "class_scores_N_C")
    changes = {
        "constant scores": {name: np.full_like(getattr(candidates, name), 0.25) for name in scores},
        "zero scores": {name: np.zeros_like(getattr(candidates, name)) for name in scores},
        "one class": {"class_scores_N_C": candidates.class_scores_N_C[:, :1]},
        "equal embeddings": {"embeddings_N_d": np.ones((count, 12), dtype=np.float32)},
        "zero embeddings": {"embeddings_N_d": np.zeros((count, 12), dtype=np.float32)},
        "no foreground": {
            "foreground_voxels_N": np.zeros(count, dtype=int),
            "target_scores_N": np.full(count, np.nan),
            "boundary_scores_N": np.full(count, np.nan),
        },
        "foreground everywhere": {"foreground_voxels_N": np.ones(count, dtype=int)},
        "one case": {"cases_N": ["case"] * count},
        "nothing annotated": {
            "references_M_d": np.zeros((0, 12), dtype=np.float32),
            "taken_M_2": np.zeros((0, 2), dtype=int),
        },
    }
    return replace(candidates, **changes[kind])


DEGENERATE = (
    "constant scores", "zero scores", "one class", "equal embeddings", "zero embeddings", "no foreground",
    "foreground everywhere", "one case", "nothing annotated",
)  # fmt: skip
