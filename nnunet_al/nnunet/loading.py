"""Training patches at the border of the image: padding is ignored, and patches reach over the border less often.

nnU-Net marks two kinds of voxels with -1 in a segmentation: voxels outside the nonzero mask, which are background, and
padding, where a patch reaches over the border of the image, which is not annotated. It then turns both into background.
Here they are distinguished: in-image -1 is read as ``OUTSIDE_MASK``, padding keeps nnU-Net's -1, and after the
augmentation the first becomes background and the second the ignore label.

With an ignore label nnU-Net centres every patch on an annotated voxel and keeps it inside the lower border of the
image, but not inside the upper one. An image that is no larger than the patch is then almost never seen whole, as in
prediction, but with up to half of it cut off. Here a patch reaches over a border only as far as nnU-Net's random
patches do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTransform
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2, nnUNetDatasetNumpy

PADDING = -1
"""Value of voxels beyond the image in nnU-Net's loader and spatial augmentation."""

OUTSIDE_MASK = -2
"""Our value for voxels of the image outside the nonzero mask; negative, as nnU-Net's masked augmentation expects."""


class PaddingAwareSegmentation:
    """A stored segmentation, read lazily, whose in-image -1 reads as ``OUTSIDE_MASK``.

    It offers the array interface that nnU-Net's cropping uses: ``shape``, ``dtype``, ``ndim`` and slicing.
    """

    def __init__(self, stored: Any) -> None:
        """Wrap an array (channels, *spatial) as nnU-Net stores it."""
        self._stored = stored

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (channels, *spatial) of the stored array."""
        return tuple(self._stored.shape)

    @property
    def dtype(self) -> np.dtype:
        """Element type of the stored array."""
        return np.dtype(self._stored.dtype)

    @property
    def ndim(self) -> int:
        """Number of axes of the stored array."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a block, as a copy."""
        block = np.array(self._stored[key])
        block[block == PADDING] = OUTSIDE_MASK
        return block


def clamp_patch_centres(
    locations: Mapping[Any, Sequence], shape: Sequence[int], patch_size: Sequence[int]
) -> dict[Any, np.ndarray | Sequence]:
    """Move the centre voxels of patches down until the patch ends at the upper border of the image.

    ``locations`` are nnU-Net's ``class_locations``: class -> voxels (n, 1 + axes), a channel before the axes. A patch
    with one axis less than the image is 2d, in slices across the first axis. A patch around a moved centre still holds
    the original voxel.
    """
    patch = [1] * (len(shape) - len(patch_size)) + [int(length) for length in patch_size]
    padding = [max(length - size, 0) for length, size in zip(patch, shape, strict=True)]
    last = [
        size + (pad + 1) // 2 - length + length // 2 for size, pad, length in zip(shape, padding, patch, strict=True)
    ]
    limits = np.array([np.iinfo(np.int64).max, *last])  # the channel stays
    return {name: np.minimum(voxels, limits) if len(voxels) else voxels for name, voxels in locations.items()}


class _BorderAware:
    """Mixin for nnU-Net's datasets.

    Attributes
    ----------
    patch_size : the network's patch, for which centres are moved as in `clamp_patch_centres`; None: not moved
    """

    patch_size: tuple[int, ...] | None = None

    def load_case(self, identifier: str) -> tuple[Any, PaddingAwareSegmentation, Any, dict]:
        """Return image, segmentation, segmentation of the previous stage and properties of a case."""
        data, segmentation, previous, properties = super().load_case(identifier)  # type: ignore[misc]
        if self.patch_size is not None:
            locations = clamp_patch_centres(properties["class_locations"], data.shape[1:], self.patch_size)
            properties = {**properties, "class_locations": locations}
        return data, PaddingAwareSegmentation(segmentation), previous, properties


class PaddingAwareDatasetBlosc2(_BorderAware, nnUNetDatasetBlosc2):
    """nnU-Net's dataset whose segmentations distinguish padding from voxels outside the nonzero mask."""


class PaddingAwareDatasetNumpy(_BorderAware, nnUNetDatasetNumpy):
    """The same for data that nnU-Net stored as ``.npz``."""


PADDING_AWARE = {nnUNetDatasetBlosc2: PaddingAwareDatasetBlosc2, nnUNetDatasetNumpy: PaddingAwareDatasetNumpy}
"""The padding-aware counterparts of nnU-Net's dataset classes."""


def padding_to_ignore_label(transforms: ComposeTransforms, ignore_label: int) -> ComposeTransforms:
    """Add two steps to nnU-Net's transforms: padding becomes the ignore label, voxels outside the mask background.

    The steps are placed before nnU-Net's own removal of -1, which then affects only the previous stage's segmentation
    in a cascade. Later transforms (regions, deep supervision) see only final labels.
    """
    steps = list(transforms.transforms)
    positions = [i for i, step in enumerate(steps) if isinstance(step, RemoveLabelTransform)]
    assert positions, "nnU-Net's pipeline no longer removes the label -1"
    steps[positions[0] : positions[0]] = [
        RemoveLabelTransform(PADDING, ignore_label, segmentation_channels=0),
        RemoveLabelTransform(OUTSIDE_MASK, 0, segmentation_channels=0),
    ]
    return ComposeTransforms(steps)


def deterministic_blur(transforms: ComposeTransforms) -> ComposeTransforms:
    """Turn off the choice of the Gaussian blur's implementation by timing, so that equal seeds give equal images.

    The direct convolution, which is always used then, was also 2 to 10 times faster at nnU-Net's kernel sizes.
    """
    for step in transforms.transforms:
        inner: BasicTransform = step.transform if isinstance(step, RandomTransform) else step
        if isinstance(inner, GaussianBlurTransform):
            inner.benchmark = False
    return transforms
