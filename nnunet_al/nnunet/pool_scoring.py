"""One pass over the pool: posterior samples, voxel map and reduction while a case is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nnunet_al.nnunet.window_stream import Chunk, Pool
from nnunet_al.scoring.dropout import draw_masks
from nnunet_al.scoring.maps import MAPS, foreground_probability
from nnunet_al.scoring.posterior import (
    deterministic_probabilities,
    micro_batch_size,
    pad_batch,
    sampled_probabilities,
)
from nnunet_al.scoring.reductions import REDUCTIONS


@dataclass(frozen=True)
class PoolStatistics:
    """What one pass, or one shard of it, found out about its regions.

    Attributes
    ----------
    numbers_N : region numbers, ascending
    stats_N_K : additive statistics of the reduction, float64
    foreground_N : predicted foreground voxels
    """

    numbers_N: np.ndarray
    stats_N_K: np.ndarray
    foreground_N: np.ndarray


@dataclass(frozen=True)
class Scorer:
    """A network and what is to be computed with it.

    Attributes
    ----------
    metric, reduction : names of a voxel map and a reduction
    passes : number of posterior samples, for maps that need them
    rng : draws the dropout masks, once for all regions
    chunk_windows : windows held at a time; changes no result
    """

    network: torch.nn.Module
    exclusive: bool
    metric: str
    reduction: str
    passes: int
    sampled: bool
    rng: np.random.Generator
    device: torch.device
    chunk_windows: int
    readers: int

    def run(self, pool: Pool, numbers_of_case: Mapping[str, Sequence[int]]) -> PoolStatistics:
        """Score the given regions."""
        numbers = sorted(number for some in numbers_of_case.values() for number in some)
        row = {number: index for index, number in enumerate(numbers)}
        stats: torch.Tensor | None = None
        foreground_N = torch.zeros(len(numbers), dtype=torch.int64)
        micro = micro_batch_size(pool.patch_size)
        masks: list[torch.Tensor] = []
        for chunk in pool.chunks(numbers_of_case, whole_batches(self.chunk_windows, micro), self.readers):
            for owners, data_B_C_xyz, mask_B_xyz in micro_batches(chunk, micro):
                data_B_C_xyz = data_B_C_xyz.to(self.device)
                if self.sampled and not masks:
                    masks = draw_masks(self.network, torch.zeros_like(data_B_C_xyz[:1]), self.passes, self.rng)
                partial, foreground = self._partial(data_B_C_xyz, mask_B_xyz.to(self.device), masks)
                if stats is None:
                    stats = torch.zeros((len(numbers), partial.shape[1]), dtype=torch.float64)
                # one window after the other, so that a region's sum does not depend on how its windows were batched
                for index, owner in enumerate(owners):
                    stats[row[owner]] += partial[index]
                    foreground_N[row[owner]] += foreground[index]
        if stats is None:
            stats = torch.zeros((0, 1), dtype=torch.float64)
        return PoolStatistics(np.array(numbers, np.int64), stats.numpy(), foreground_N.numpy())

    def _partial(
        self, data_B_C_xyz: torch.Tensor, mask_B_xyz: torch.Tensor, masks: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.sampled:
            probs_T_B_C_xyz = sampled_probabilities(self.network, data_B_C_xyz, masks, self.exclusive)
        else:
            probs_T_B_C_xyz = deterministic_probabilities(self.network, data_B_C_xyz, self.exclusive)
        values = MAPS[self.metric].function(probs_T_B_C_xyz, self.exclusive)
        foreground_B_xyz = foreground_probability(probs_T_B_C_xyz, self.exclusive)
        partial = REDUCTIONS[self.reduction].partial(values, mask_B_xyz, foreground_B_xyz)
        mean_B_C_xyz = probs_T_B_C_xyz.mean(0)
        predicted = mean_B_C_xyz.argmax(1) > 0 if self.exclusive else (mean_B_C_xyz > 0.5).any(1)
        return partial.cpu(), (predicted & mask_B_xyz).flatten(1).sum(1).cpu()


def whole_batches(wanted: int, micro: int) -> int:
    """Return the least multiple of ``micro`` from ``wanted`` on: a batch cut short would be filled up with zeros."""
    return max(1, -(-wanted // micro)) * micro


def micro_batches(chunk: Chunk, size: int) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Cut a chunk into batches of exactly ``size`` windows, the last filled up with zeros that nobody owns."""
    for first in range(0, len(chunk.numbers), size):
        some = slice(first, first + size)
        yield chunk.numbers[some], pad_batch(chunk.data_B_C_xyz[some], size), pad_batch(chunk.mask_B_xyz[some], size)


def merge(parts: Sequence[PoolStatistics]) -> PoolStatistics:
    """Put shards together; what each region got in its shard is what it gets in the whole."""
    filled = [part for part in parts if len(part.numbers_N)]
    if not filled:
        return parts[0]
    numbers_N = np.concatenate([part.numbers_N for part in filled])
    order_N = np.argsort(numbers_N)
    return PoolStatistics(
        numbers_N[order_N],
        np.concatenate([part.stats_N_K for part in filled])[order_N],
        np.concatenate([part.foreground_N for part in filled])[order_N],
    )
