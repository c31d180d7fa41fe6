"""Stream the windows of candidate regions in chunks; each case is read once, and the chunk size changes no result."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from nnunet_al.pool.boxes import Region, n_voxels
from nnunet_al.pool.geometry import CaseGeometry
from nnunet_al.pool.windows import Window, cell_mask, inside_mask, read_window, windows_of
from nnunet_al.terminal import progress

ReadImage = Callable[[str], np.ndarray]


class Chunk(NamedTuple):
    """Some windows, ready for the network.

    Attributes
    ----------
    numbers : region number of each window
    data_B_C_xyz : windows, without the singleton axis in 2d
    mask_B_xyz : the voxels of each window that count; never padding
    inside_B_xyz : the voxels of each window inside the image, thus not padding
    voxels_B : voxel count of the region that each window belongs to
    range_B_C : from the 1st to the 99th percentile of each channel of the window's image, or 1 (``Pool.ranges``)
    """

    numbers: list[int]
    data_B_C_xyz: torch.Tensor
    mask_B_xyz: torch.Tensor
    inside_B_xyz: torch.Tensor
    voxels_B: torch.Tensor
    range_B_C: torch.Tensor


@dataclass(frozen=True)
class Pool:
    """The input of a pass over regions: regions, geometries of their cases, and a function that reads images.

    With ``ranges``, the range of intensities of each image is measured while it is in memory.
    """

    regions: Sequence[Region]
    geometries: Mapping[str, CaseGeometry]
    read_image: ReadImage
    patch_size: tuple[int, ...]
    ranges: bool = False

    def chunks(
        self, numbers_of_case: Mapping[str, Sequence[int]], size: int, readers: int
    ) -> Generator[Chunk, None, None]:
        """Yield the windows of the given regions, case by case in the given order, ``size`` windows at a time.

        While the network processes a chunk, ``readers`` threads read the next cases and one thread cuts the next chunk.
        The threads end with the generator, so close it if the loop may be left early.
        """
        return _prefetched(self._cut_windows(numbers_of_case, size, readers))

    def _cut_windows(
        self, numbers_of_case: Mapping[str, Sequence[int]], size: int, readers: int
    ) -> Generator[Chunk, None, None]:
        queued: list[_QueuedWindow] = []
        for case, (image_C_xyz, range_C) in self._images(list(numbers_of_case), max(1, readers)):
            geometry = self.geometries[case]
            for number in numbers_of_case[case]:
                box = geometry.to_network(self.regions[number].box)
                for window in windows_of(box, self.patch_size, geometry.network_shape):
                    inside_xyz = inside_mask(window, geometry.network_shape)
                    patch_C_xyz = read_window(image_C_xyz, window)
                    queued.append(_QueuedWindow(number, window, patch_C_xyz, inside_xyz, n_voxels(box), range_C))
                    if len(queued) == size:
                        yield self._chunk(queued)
                        queued = []
        if queued:
            yield self._chunk(queued)

    def _images(self, cases: list[str], readers: int) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
        with ThreadPoolExecutor(readers) as executor:
            ahead: dict[str, Future[tuple[np.ndarray, np.ndarray]]] = {}
            for index, case in enumerate(progress(cases, "cases")):
                for upcoming in cases[index : index + readers + 1]:
                    if upcoming not in ahead:
                        ahead[upcoming] = executor.submit(self._read, upcoming)
                yield case, ahead.pop(case).result()

    def _read(self, case: str) -> tuple[np.ndarray, np.ndarray]:
        image_C_xyz = self.read_image(case)
        if not self.ranges:
            return image_C_xyz, np.ones(len(image_C_xyz))
        low_C, high_C = np.percentile(image_C_xyz.reshape(len(image_C_xyz), -1), [1, 99], axis=1)
        return image_C_xyz, high_C - low_C

    def _chunk(self, queued: list[_QueuedWindow]) -> Chunk:
        data = torch.from_numpy(np.stack([one.patch_C_xyz for one in queued]))
        mask = torch.from_numpy(np.stack([cell_mask(one.window) for one in queued]))
        inside = torch.from_numpy(np.stack([one.inside_xyz for one in queued]))
        if len(self.patch_size) == 2:
            data, mask, inside = data.squeeze(2), mask.squeeze(1), inside.squeeze(1)
        voxels = torch.tensor([one.region_voxels for one in queued], dtype=torch.float64)
        ranges = torch.from_numpy(np.stack([one.range_C for one in queued]).astype(np.float32))
        return Chunk([one.number for one in queued], data, mask, inside, voxels, ranges)


def _prefetched(chunks: Generator[Chunk, None, None]) -> Generator[Chunk, None, None]:
    with closing(chunks), ThreadPoolExecutor(1) as executor:
        upcoming = executor.submit(next, chunks, None)
        while (chunk := upcoming.result()) is not None:
            upcoming = executor.submit(next, chunks, None)
            yield chunk


class _QueuedWindow(NamedTuple):
    """A window of a chunk that is not yet full."""

    number: int
    window: Window
    patch_C_xyz: np.ndarray
    inside_xyz: np.ndarray
    region_voxels: int
    range_C: np.ndarray
