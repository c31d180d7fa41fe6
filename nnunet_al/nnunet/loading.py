"""Training data in which the border of an image is not mistaken for background, nor seen more often than it is there.

nnU-Net marks two things with -1 in a segmentation: voxels outside the nonzero mask, which are background, and what lies
beyond the image where a patch reaches over its border, about which nobody said anything. It then turns both into
background. Here they stay apart: in-image -1 is read as ``OUTSIDE_MASK``, padding keeps nnU-Net's -1, and after the
augmentation the first becomes background and the second the ignore label.

With an ignore label nnU-Net centres every patch on an annotated voxel and keeps it from reaching over the lower border
of the image, but not over the upper one. An image that is no larger than the patch is then hardly ever seen as it is
when it is predicted, but with up to half of it cut off. Here a patch reaches over a border only as far as nnU-Net's own
random patches do.
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
"""What nnU-Net's loader and its spatial augmentation put beyond the image."""

OUTSIDE_MASK = -2
"""Our value for voxels of the image outside the nonzero mask; negative, as nnU-Net's masked augmentation expects."""


class PaddingAwareSegmentation:
    """A stored segmentation, read lazily, whose in-image -1 reads as ``OUTSIDE_MASK``.

    It has what nnU-Net's cropping asks of an array: ``shape``, ``dtype``, ``ndim`` and slicing to a numpy array.
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


def centres_within(
    locations: Mapping[Any, Sequence], shape: Sequence[int], patch_size: Sequence[int]
) -> dict[Any, np.ndarray | Sequence]:
    """Move voxels on which patches are centred back until a patch around them ends where the image ends.

    Parameters
    ----------
    locations
        nnU-Net's ``class_locations``: class -> voxels (n, 1 + axes), a channel before the axes
    shape
        voxels of the image
    patch_size
        the network's patch; with one axis less, it is one of slices across the first axis

    Returns
    -------
    dict
        Same classes, new arrays; a patch around a voxel that was moved still holds the voxel.
    """
    patch = [1] * (len(shape) - len(patch_size)) + [int(length) for length in patch_size]
    padding = [max(length - size, 0) for length, size in zip(patch, shape, strict=True)]
    last = [
        size + (pad + 1) // 2 - length + length // 2 for size, pad, length in zip(shape, padding, patch, strict=True)
    ]
    limits = np.array([np.iinfo(np.int64).max, *last])  # the channel stays
    return {name: np.minimum(voxels, limits) if len(voxels) else voxels for name, voxels in locations.items()}


class _BorderAware:
    """Mixed into one of nnU-Net's datasets.

    Attributes
    ----------
    patch_size : the network's patch, within which patches are kept to the image; None leaves them to nnU-Net
    """

    patch_size: tuple[int, ...] | None = None

    def load_case(self, identifier: str) -> tuple[Any, PaddingAwareSegmentation, Any, dict]:
        """Return image, segmentation, segmentation of the previous stage and properties of a case."""
        data, segmentation, previous, properties = super().load_case(identifier)  # type: ignore[misc]
        if self.patch_size is not None:
            locations = centres_within(properties["class_locations"], data.shape[1:], self.patch_size)
            properties = {**properties, "class_locations": locations}
        return data, PaddingAwareSegmentation(segmentation), previous, properties


class PaddingAwareDatasetBlosc2(_BorderAware, nnUNetDatasetBlosc2):
    """nnU-Net's dataset with segmentations that tell padding from the outside of the nonzero mask."""


class PaddingAwareDatasetNumpy(_BorderAware, nnUNetDatasetNumpy):
    """The same for data that nnU-Net stored as ``.npz``."""


_PADDING_AWARE = {nnUNetDatasetBlosc2: PaddingAwareDatasetBlosc2, nnUNetDatasetNumpy: PaddingAwareDatasetNumpy}


def padding_aware(dataset_class: type) -> type:
    """Return the class that reads what ``dataset_class`` reads and tells padding from the outside of the mask."""
    return _PADDING_AWARE[dataset_class]


def ignore_padding(transforms: ComposeTransforms, ignore_label: int) -> ComposeTransforms:
    """Let padding become the ignore label, and the outside of the mask background, in a pipeline of nnU-Net's.

    The two steps go before nnU-Net's own removal of -1, which is left nothing to do in the first segmentation channel
    and still cleans the previous stage's in a cascade. What follows (regions, deep supervision) sees only final labels.
    """
    steps = list(transforms.transforms)
    positions = [i for i, step in enumerate(steps) if isinstance(step, RemoveLabelTransform)]
    assert positions, "nnU-Net's pipeline no longer removes the label -1"
    steps[positions[0] : positions[0]] = [
        RemoveLabelTransform(PADDING, ignore_label, segmentation_channels=0),
        RemoveLabelTransform(OUTSIDE_MASK, 0, segmentation_channels=0),
    ]
    return ComposeTransforms(steps)


def without_timing(transforms: ComposeTransforms) -> ComposeTransforms:
    """Stop the Gaussian blur from choosing its implementation by a stopwatch, so that equal seeds give equal images.

    The direct convolution that is left was also the faster one at nnU-Net's kernel sizes, by about 2 to 10 times.
    """
    for step in transforms.transforms:
        inner: BasicTransform = step.transform if isinstance(step, RandomTransform) else step
        if isinstance(inner, GaussianBlurTransform):
            inner.benchmark = False
    return transforms
