"""Vectors that describe regions: one pass over the pool that sums what a network says of each region's windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from nnunet_al.nnunet.pool_scoring import micro_batches, whole_batches
from nnunet_al.nnunet.window_stream import Chunk, Pool
from nnunet_al.scoring.fisher import FisherDiagonal
from nnunet_al.scoring.gradients import weight_gradients
from nnunet_al.scoring.layers import convolutions
from nnunet_al.scoring.posterior import micro_batch_size, pad_batch

Fisher = dict[str, torch.Tensor]
WindowVectors = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From data_B_C_xyz and weight_B_xyz, 1 / |V_r| on the voxels that count, to (B, d); windows of a region add up."""


@dataclass(frozen=True)
class Embedder:
    """A network that describes regions."""

    network: torch.nn.Module
    exclusive: bool
    device: torch.device
    chunk_windows: int
    readers: int

    def fisher(self, pool: Pool, numbers_of_case: Mapping[str, Sequence[int]], times: Mapping[int, int]) -> Fisher:
        """Return F, the mean over regions of g² for all convolution weights (methods: USIM, step 6).

        Region ``r`` counts ``times[r]`` times, as often as it was drawn.
        """
        layers = convolutions(self.network)
        diagonal = FisherDiagonal()
        per_window = self._per_window(pool, numbers_of_case, layers)
        # a region's windows come one after the other, so only one region's gradient is held
        for owner, windows in groupby(per_window, key=lambda owned: owned[0]):
            gradients = [gradient for _, gradient in windows]
            total = {name: torch.stack([gradient[name] for gradient in gradients]).sum(0) for name in layers}
            for _ in range(times[owner]):
                diagonal.update(total)
        return diagonal.mean()

    def dimensions(self, vectors: WindowVectors, patch_size: Sequence[int], channels: int) -> int:
        """Return d, which is asked of one empty window."""
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
    ) -> None:
        """Write the regions' vectors, times ``scale_d``, into their rows of ``out_N_d``."""
        micro = micro_batch_size(pool.patch_size)
        total: np.ndarray | None = None
        current: int | None = None
        for chunk in pool.chunks(numbers_of_case, whole_batches(self.chunk_windows, micro), self.readers):
            for owners, data_B_C_xyz, weight_B_xyz in self._weighted(chunk, micro):
                windows_B_d = vectors(data_B_C_xyz, weight_B_xyz).cpu().double().numpy()
                for owner, vector_d in zip(owners, windows_B_d, strict=False):
                    total = total + vector_d if owner == current and total is not None else vector_d
                    current = owner
                    out_N_d[row[owner]] = total * scale_d

    def _weighted(self, chunk: Chunk, size: int) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
        for first, (owners, data_B_C_xyz, mask_B_xyz, _) in zip(
            range(0, len(chunk.numbers), size), micro_batches(chunk, size), strict=True
        ):
            voxels_B = pad_batch(chunk.voxels_B[first : first + size], size).clamp_min(1)
            shape = (-1,) + (1,) * (mask_B_xyz.ndim - 1)
            weight_B_xyz = (mask_B_xyz.double() / voxels_B.view(shape)).float()
            yield owners, data_B_C_xyz.to(self.device), weight_B_xyz.to(self.device)

    def _per_window(
        self, pool: Pool, numbers_of_case: Mapping[str, Sequence[int]], layers: Mapping[str, torch.nn.Module]
    ) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
        # all layers' gradients of one sample are as large as the network: few windows at a time
        micro = min(4, micro_batch_size(pool.patch_size))
        for chunk in pool.chunks(numbers_of_case, whole_batches(self.chunk_windows, micro), self.readers):
            for owners, data_B_C_xyz, weight_B_xyz in self._weighted(chunk, micro):
                gradients = weight_gradients(self.network, data_B_C_xyz, weight_B_xyz, layers, self.exclusive)
                for index, owner in enumerate(owners):
                    yield owner, {name: gradient[index : index + 1] for name, gradient in gradients.items()}
