"""Windows of the planned patch size that cover a region; each voxel counts in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from nnunet_al.pool.boxes import Box, contains, intersect, shift, to_slices, whole


@dataclass(frozen=True)
class Window:
    """One input patch of the network, and the voxels in it that count.

    Attributes
    ----------
    start : first network voxel per axis; may be negative where the image is smaller than the patch, because the window
        then extends beyond the image on both sides (padding)
    shape : the patch size per axis; ``(1, y, x)`` in 2d
    cell : the network voxels of the region that are counted in this window; the cells of a region's windows are
        disjoint and their union is the region's network box
    """

    start: tuple[int, ...]
    shape: tuple[int, ...]
    cell: Box

    @property
    def box(self) -> Box:
        """The window in network voxels, padding included."""
        return tuple((start, start + length) for start, length in zip(self.start, self.shape, strict=True))


def windows_of(network_box: Box, patch_size: Sequence[int], network_shape: Sequence[int]) -> list[Window]:
    """Divide a region's network box into the fewest balanced cells that fit the patch, with a window around each.

    A window is centred on its cell and then moved into the image, so that it contains as much context as possible;
    along an axis where the image is smaller than the patch, the image is centred in the window. With two numbers in
    ``patch_size`` (2d) each slice along the first axis has its own windows.

    Parameters
    ----------
    network_box
        a box of network voxels inside the image
    patch_size
        the planned patch, two numbers (2d) or three (3d)
    network_shape
        the preprocessed image's voxels per axis
    """
    assert contains(whole(network_shape), network_box), f"{network_box} is not inside {tuple(network_shape)}"
    shape = (1,) * (len(network_shape) - len(patch_size)) + tuple(int(length) for length in patch_size)
    per_axis = [
        [(_window_start(cell, patch_length, image_length), cell) for cell in _cells(interval, patch_length)]
        for interval, patch_length, image_length in zip(network_box, shape, network_shape, strict=True)
    ]
    return [
        Window(start=tuple(start for start, _ in axes), shape=shape, cell=tuple(cell for _, cell in axes))
        for axes in product(*per_axis)
    ]


def read_window(array_C_xyz: np.ndarray, window: Window) -> np.ndarray:
    """Read a window of a preprocessed image ``(C, x, y, z)``; zeros where it extends beyond the image.

    Only the window's voxels are read, so that ``array_C_xyz`` may be a file on disk (memory map, Blosc2).

    Returns
    -------
    np.ndarray
        ``(C, *window.shape)``, a copy of the array's type.
    """
    patch_C_xyz = np.zeros((array_C_xyz.shape[0], *window.shape), dtype=array_C_xyz.dtype)
    inside = intersect(window.box, whole(array_C_xyz.shape[1:]))
    if inside is not None:
        target = shift(inside, [-start for start in window.start])
        patch_C_xyz[(slice(None), *to_slices(target))] = array_C_xyz[(slice(None), *to_slices(inside))]
    return patch_C_xyz


def cell_mask(window: Window) -> np.ndarray:
    """Return the mask of the window's cell: bool, of shape ``window.shape``."""
    mask_xyz = np.zeros(window.shape, dtype=bool)
    mask_xyz[to_slices(shift(window.cell, [-start for start in window.start]))] = True
    return mask_xyz


def inside_mask(window: Window, network_shape: Sequence[int]) -> np.ndarray:
    """Return the mask of the window's voxels inside the image (not padding): bool, of shape ``window.shape``."""
    mask_xyz = np.zeros(window.shape, dtype=bool)
    inside = intersect(window.box, whole(network_shape))
    if inside is not None:
        mask_xyz[to_slices(shift(inside, [-start for start in window.start]))] = True
    return mask_xyz


def _cells(interval: tuple[int, int], longest: int) -> list[tuple[int, int]]:
    low, high = interval
    length = high - low
    n_cells = -(-length // longest)
    borders = [low + i * length // n_cells for i in range(n_cells + 1)]
    return list(pairwise(borders))


def _window_start(cell: tuple[int, int], patch_length: int, image_length: int) -> int:
    if image_length <= patch_length:
        return -((patch_length - image_length) // 2)
    centred = cell[0] - (patch_length - (cell[1] - cell[0])) // 2
    return min(max(centred, 0), image_length - patch_length)
