"""Images as compressed NIfTI files, read back after writing."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK

from nnunet_al.errors import StorageError
from nnunet_al.files import storage_errors

FILE_ENDING = ".nii.gz"


def write_image(
    path: Path,
    array_zyx: np.ndarray,
    spacing_xyz_mm: Sequence[float],
    origin_xyz_mm: Sequence[float],
    direction: Sequence[float] | None = None,
) -> None:
    """Write an image or a label and make sure that all of it is there, for SimpleITK overlooks full disks.

    Parameters
    ----------
    path
        ends in ``.nii.gz``; its folder is made, the one above must be there
    array_zyx
        voxels
    spacing_xyz_mm, origin_xyz_mm, direction
        as SimpleITK takes them; the direction is the identity where it is None

    Raises
    ------
    StorageError
        if the file cannot be written, or what can be read back is not ``array_zyx``.
    """
    image = SimpleITK.GetImageFromArray(array_zyx)
    image.SetSpacing(spacing_xyz_mm)
    image.SetOrigin(origin_xyz_mm)
    if direction is not None:
        image.SetDirection(direction)
    sentence = f"{path} could not be written whole: free some disk space and run the same command again."
    with storage_errors(path):
        # without the parents: whoever is still writing when the dataset is given up does not make it anew
        path.parent.mkdir(exist_ok=True)
        try:
            SimpleITK.WriteImage(image, path, useCompression=True)
            # to the end, where the checksum is: what is missing may be zeros, which readers would fill in
            intact = gzip.decompress(path.read_bytes()).endswith(np.ascontiguousarray(array_zyx).tobytes())
        except (RuntimeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise StorageError(sentence) from error
    if not intact:
        raise StorageError(sentence)
