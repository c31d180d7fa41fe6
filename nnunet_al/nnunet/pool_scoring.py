"""Score the regions of the pool in one pass: posterior samples, voxel maps and reductions per region."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from nnunet_al.allocation import keeping_memory
from nnunet_al.errors import StrategyError
from nnunet_al.nnunet.window_stream import Chunk, Pool
from nnunet_al.scoring.augmentation import AugmentationSampler
from nnunet_al.scoring.fast_network import exact_convolutions
from nnunet_al.scoring.posterior import micro_batch_size, pad_batch
from nnunet_al.scoring.reductions import Reduction
from nnunet_al.scoring.region_scores import evidence_of
from nnunet_al.scoring.samplers import Sampler, Samples

VoxelFunction = Callable[[torch.Tensor, bool], torch.Tensor]


@dataclass(frozen=True)
class Measure:
    """One number per region, or one per region and class, that a pass computes.

    Attributes
    ----------
    voxels : the voxel map, from (probs_T_B_C_xyz, exclusive) to B_xyz or B_C_xyz; None for the loss that the network's
        loss module predicts, which is the same for all voxels of a window
    reduction : from the voxels to the region
    name : name of the metric in messages
    """

    voxels: VoxelFunction | None
    reduction: Reduction
    name: str = ""

    def values(self, probs_T_B_C_xyz: torch.Tensor, exclusive: bool) -> torch.Tensor:
        """Return the voxel map: B_xyz or, where the reduction is per class, B_F_xyz for F foreground classes or heads.

        Raises StrategyError if the function of the map returns another type or shape.
        """
        assert self.voxels is not None
        values = self.voxels(probs_T_B_C_xyz, exclusive)
        _, batch, channels, *xyz = probs_T_B_C_xyz.shape
        wanted = (batch, *([channels - exclusive] if self.reduction.per_class else []), *xyz)
        if isinstance(values, torch.Tensor) and values.is_floating_point() and tuple(values.shape) == wanted:
            return values
        found = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, torch.Tensor) else type(values).__name__
        raise StrategyError(
            f"The metric '{self.name}' returned {found} where a float tensor {wanted} is wanted: correct its function "
            "in the package that it comes from."
        )


@dataclass(frozen=True)
class PoolStatistics:
    """Results of one pass, or of one shard of it, per region.

    Attributes
    ----------
    numbers_N : region numbers, ascending
    foreground_N : predicted foreground voxels
    stats : additive statistics of each measure's reduction by the measure's name, (N, K) float64
    """

    numbers_N: np.ndarray
    foreground_N: np.ndarray
    stats: Mapping[str, np.ndarray]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the statistics as named arrays, ready for a file."""
        named = {f"{_STATS}{name}": stats_N_K for name, stats_N_K in self.stats.items()}
        return {"numbers_N": self.numbers_N, "foreground_N": self.foreground_N, **named}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> PoolStatistics:
        """Return the statistics from the arrays that `to_arrays` returned."""
        stats = {name.removeprefix(_STATS): array for name, array in arrays.items() if name.startswith(_STATS)}
        return cls(arrays["numbers_N"], arrays["foreground_N"], stats)

    def take(self, rows: np.ndarray) -> PoolStatistics:
        """Return some rows, given as a mask or by their indices."""
        stats = {name: stats_N_K[rows] for name, stats_N_K in self.stats.items()}
        return PoolStatistics(self.numbers_N[rows], self.foreground_N[rows], stats)


_STATS = "stats/"

SavePartial = Callable[[Callable[[], PoolStatistics]], object]
"""Called between batches with a function that returns the statistics of all regions that are complete so far."""


@dataclass(frozen=True)
class Scorer:
    """The sampler of the posterior and the measures that are computed from its samples.

    Attributes
    ----------
    measures : by name; empty if only the predicted foreground is wanted
    chunk_windows : windows in memory at a time; changes no result
    readers : threads that read images
    roi_channels : output channels of the classes of interest, for reductions restricted to these classes; with
        exclusive outputs channel 0 is background, otherwise each channel is a head; empty: all foreground
    """

    sampler: Sampler
    exclusive: bool
    measures: Mapping[str, Measure]
    device: torch.device
    chunk_windows: int
    readers: int
    roi_channels: tuple[int, ...] = ()

    def run(
        self, pool: Pool, numbers_of_case: Mapping[str, Sequence[int]], save_partial: SavePartial = lambda _: None
    ) -> PoolStatistics:
        """Score the given regions; an exception of ``save_partial`` ends the pass."""
        sums = _Sums([number for some in numbers_of_case.values() for number in some])
        with closing(pool_batches(pool, numbers_of_case, self.chunk_windows, self.readers)) as batches:
            for owners, data, mask, inside, _, ranges in batches:
                save_partial(partial(sums.before, owners[0]))
                sums.add(owners, *self._partials(*(one.to(self.device) for one in (data, mask, inside, ranges))))
        return sums.before(None)

    def _partials(
        self, data_B_C_xyz: torch.Tensor, mask_B_xyz: torch.Tensor, inside_B_xyz: torch.Tensor, range_B_C: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        if isinstance(self.sampler, AugmentationSampler):
            samples = self.sampler(data_B_C_xyz, range_B_C)
        else:
            samples = self.sampler(data_B_C_xyz)
        counted_B_xyz = _visible(mask_B_xyz, samples.visible_B_xyz)
        evidence = evidence_of(samples.probs_T_B_C_xyz, self.exclusive, self.roi_channels, inside_B_xyz)
        partials = {
            name: measure.reduction.partial(self._values(measure, samples), counted_B_xyz, evidence).cpu()
            for name, measure in self.measures.items()
        }
        return partials, (evidence.predicted_B_xyz & mask_B_xyz).flatten(1).sum(1).cpu()

    def _values(self, measure: Measure, samples: Samples) -> torch.Tensor:
        if measure.voxels is not None:
            return measure.values(samples.probs_T_B_C_xyz, self.exclusive)
        assert samples.predicted_loss_B is not None, "the sampler predicts no loss"
        probs_B_xyz = samples.probs_T_B_C_xyz[0, :, 0]
        return samples.predicted_loss_B.view(-1, *[1] * (probs_B_xyz.ndim - 1)).expand_as(probs_B_xyz)


class _Sums:
    """Running sums of the regions' statistics; windows arrive region after region in the order of ``numbers``."""

    def __init__(self, numbers: list[int]) -> None:
        self._numbers_N = np.array(numbers, np.int64)
        self._row = {number: row for row, number in enumerate(numbers)}
        self._foreground_N = torch.zeros(len(numbers), dtype=torch.int64)
        self._stats: dict[str, torch.Tensor] = {}

    def add(self, owners: list[int], partials: Mapping[str, torch.Tensor], foreground_B: torch.Tensor) -> None:
        """Add the windows of a batch, the last of which may be padding."""
        for name, partial_B_K in partials.items():
            if name not in self._stats:
                shape = (len(self._numbers_N), partial_B_K.shape[1])
                self._stats[name] = torch.zeros(shape, dtype=torch.float64)
            # window by window, so that a region's sum does not depend on how its windows were batched
            for index, owner in enumerate(owners):
                self._stats[name][self._row[owner]] += partial_B_K[index]
        for index, owner in enumerate(owners):
            self._foreground_N[self._row[owner]] += foreground_B[index]

    def before(self, number: int | None) -> PoolStatistics:
        """Return a copy of the statistics of all regions that come before this one, or of all."""
        order_N = np.argsort(self._numbers_N[: None if number is None else self._row[number]])
        stats = {name: stats_N_K.numpy() for name, stats_N_K in self._stats.items()}
        return PoolStatistics(self._numbers_N, self._foreground_N.numpy(), stats).take(order_N)


def _visible(mask_B_xyz: torch.Tensor, visible_B_xyz: torch.Tensor | None) -> torch.Tensor:
    """Leave out voxels that are not visible; a window without any visible voxel, as in a corner, counts all voxels."""
    if visible_B_xyz is None:
        return mask_B_xyz
    seen_B_xyz = mask_B_xyz & visible_B_xyz
    nothing_B = ~seen_B_xyz.flatten(1).any(1)
    return torch.where(nothing_B.view(-1, *[1] * (mask_B_xyz.ndim - 1)), mask_B_xyz, seen_B_xyz)


def pool_batches(
    pool: Pool, numbers_of_case: Mapping[str, Sequence[int]], chunk_windows: int, readers: int
) -> Generator[Chunk, None, None]:
    """Yield the windows of the given regions in batches for the network, with exact convolutions while it is used."""
    micro = micro_batch_size(pool.patch_size)
    size = max(1, -(-chunk_windows // micro)) * micro  # only the last batch of a chunk may be padded
    with keeping_memory(), exact_convolutions(), closing(pool.chunks(numbers_of_case, size, readers)) as chunks:
        for chunk in chunks:
            yield from micro_batches(chunk, micro)


def micro_batches(chunk: Chunk, size: int) -> Iterator[Chunk]:
    """Cut a chunk into batches of exactly ``size`` windows; the last is padded with zeros that belong to no region."""
    for first in range(0, len(chunk.numbers), size):
        some = slice(first, first + size)
        yield Chunk(chunk.numbers[some], *(pad_batch(tensor[some], size) for tensor in chunk[1:]))


def merge(parts: Sequence[PoolStatistics]) -> PoolStatistics:
    """Join the statistics of shards, ordered by region number; the values do not change."""
    filled = [part for part in parts if len(part.numbers_N)]
    if not filled:
        return parts[0]
    numbers_N = np.concatenate([part.numbers_N for part in filled])
    order_N = np.argsort(numbers_N)
    return PoolStatistics(
        numbers_N[order_N],
        np.concatenate([part.foreground_N for part in filled])[order_N],
        {name: np.concatenate([part.stats[name] for part in filled])[order_N] for name in filled[0].stats},
    )
