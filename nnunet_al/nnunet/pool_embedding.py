"""Embed the regions of the pool in one pass: a region's vector is the sum of the vectors of its windows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch

from nnunet_al.nnunet.pool_scoring import pool_batches
from nnunet_al.nnunet.window_stream import Pool
from nnunet_al.scoring.gradients import visit_gradients
from nnunet_al.scoring.region_fisher import RegionFisher

Fisher = dict[str, torch.Tensor]
WindowVectors = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From data_B_C_xyz and weight_B_xyz, 1 / |V_r| on the voxels that count, to (B, d); summed over a region's windows."""
SavePartial = Callable[[Callable[[], list[int]]], object]
"""Called between batches with a function that returns the regions that are complete so far."""


@dataclass(frozen=True)
class Embedder:
    """Computes vectors of regions, or their Fisher information, with a network."""

    network: torch.nn.Module
    exclusive: bool
    device: torch.device
    chunk_windows: int
    readers: int

    def fisher(
        self,
        pool: Pool,
        numbers_of_case: Mapping[str, Sequence[int]],
        times: Mapping[int, int],
        layers: Mapping[str, torch.nn.Module],
        heads: int = 1,
        before: Mapping[str, np.ndarray] | None = None,
        save_partial: Callable[[Callable[[], dict[str, np.ndarray]]], object] = lambda _: None,
    ) -> Fisher:
        """Return F, the mean over regions of g² for the weights of ``layers`` (methods: USIM, step 6).

        Region ``r``, which was drawn ``times[r]`` times, counts as often. ``save_partial`` is called after each batch
        with a function that returns the sums so far. With them as ``before``, the pass goes on behind their last batch:
        its windows and batches are the same, so that sums are added in the same order.
        """
        diagonal = RegionFisher(layers, times, before)
        with closing(self._batches(pool, numbers_of_case)) as batches:
            for owners, data_B_C_xyz, weight_B_xyz in islice(batches, diagonal.batches, None):
                visit = diagonal.visitor(owners)
                visit_gradients(self.network, data_B_C_xyz, weight_B_xyz, layers, visit, self.exclusive, heads=heads)
                save_partial(diagonal.sums)
        return diagonal.mean()

    def dimensions(self, vectors: WindowVectors, patch_size: Sequence[int], channels: int) -> int:
        """Return d, from the vector of one empty window."""
        data_B_C_xyz = torch.zeros(1, channels, *patch_size, device=self.device)
        return int(vectors(data_B_C_xyz, torch.zeros_like(data_B_C_xyz[:, 0])).shape[1])

    def embed(
        self,
        pool: Pool,
        numbers_of_case: Mapping[str, Sequence[int]],
        vectors: WindowVectors,
        scale_d: np.ndarray | float,
        out_N_d: np.ndarray,
        row: Mapping[int, int],
        save_partial: SavePartial = lambda _: None,
    ) -> None:
        """Write the regions' vectors, times ``scale_d``, into their rows of ``out_N_d``.

        A row is final once all windows of its region are summed. An exception of ``save_partial`` ends the pass.
        """
        total: np.ndarray | None = None
        current: int | None = None
        order = [number for some in numbers_of_case.values() for number in some]
        place = {number: index for index, number in enumerate(order)}
        with closing(self._batches(pool, numbers_of_case)) as batches:
            for owners, data_B_C_xyz, weight_B_xyz in batches:
                save_partial(partial(_first, order, place[owners[0]]))
                windows_B_d = vectors(data_B_C_xyz, weight_B_xyz).cpu().double().numpy()
                for owner, vector_d in zip(owners, windows_B_d, strict=False):
                    total = total + vector_d if owner == current and total is not None else vector_d
                    current = owner
                    out_N_d[row[owner]] = total * scale_d

    def _batches(
        self, pool: Pool, numbers_of_case: Mapping[str, Sequence[int]]
    ) -> Generator[tuple[list[int], torch.Tensor, torch.Tensor], None, None]:
        with closing(pool_batches(pool, numbers_of_case, self.chunk_windows, self.readers)) as batches:
            for owners, data_B_C_xyz, mask_B_xyz, _, voxels_B, _ in batches:
                shape = (-1,) + (1,) * (mask_B_xyz.ndim - 1)
                weight_B_xyz = (mask_B_xyz.double() / voxels_B.clamp_min(1).view(shape)).float()
                yield owners, data_B_C_xyz.to(self.device), weight_B_xyz.to(self.device)


def _first(numbers: list[int], count: int) -> list[int]:
    return numbers[:count]
