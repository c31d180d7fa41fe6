"""nnU-Net's nonzero mask: the voxels that count as part of the image."""

from __future__ import annotations

import numpy as np

from nnunet_al.nnunet.raw_dataset import CaseFiles
from nnunet_al.pool.annotated import fully_annotated
from nnunet_al.pool.boxes import Region


def nonzero_mask(files: CaseFiles, reader: str) -> np.ndarray:
    """Return nnU-Net's mask (z, y, x), bool: nonzero in any channel, holes filled."""
    from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name
    from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask

    image_C_xyz, _ = recursive_find_reader_writer_by_name(reader)().read_images([str(file) for file in files.images])
    mask_xyz: np.ndarray = create_nonzero_mask(image_C_xyz)
    return mask_xyz


def regions_in_image(regions: list[Region], files: CaseFiles, reader: str) -> list[Region]:
    """Return the regions of one case with any voxel of nnU-Net's mask; the others are background by definition."""
    outside_xyz = ~nonzero_mask(files, reader)
    empty_N = fully_annotated(regions, {region.case: outside_xyz for region in regions})
    return [region for region, empty in zip(regions, empty_N, strict=True) if not empty]
