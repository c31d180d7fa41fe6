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
    """Write an image or a label and check that the file is complete, because SimpleITK does not notice full disks.

    ``path`` ends in ``.nii.gz``; its folder is created, the parent must exist. Spacing, origin and direction (None: the
    identity) are in SimpleITK's order.

    Raises StorageError if the file cannot be written, or differs from ``array_zyx`` when it is read back.
    """
    image = SimpleITK.GetImageFromArray(array_zyx)
    image.SetSpacing(spacing_xyz_mm)
    image.SetOrigin(origin_xyz_mm)
    if direction is not None:
        image.SetDirection(direction)
    sentence = f"{path} could not be written whole: free some disk space and run the same command again."
    with storage_errors(path):
        # without parents: a process that still writes after the dataset was removed must not create it again
        path.parent.mkdir(exist_ok=True)
        try:
            SimpleITK.WriteImage(image, path, useCompression=True)
            # to the end, where the checksum is: a missing end may be zeros, which readers would fill in
            intact = gzip.decompress(path.read_bytes()).endswith(np.ascontiguousarray(array_zyx).tobytes())
        except (RuntimeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise StorageError(sentence) from error
    if not intact:
        raise StorageError(sentence)
