"""Broken files that SimpleITK reads without a word: NIfTI files cut short, and NIfTI voxels that are no numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.errors import DatasetError
from nnunet_al.files import nifti_is_finite


def read_intact(file: Path, read: Callable[[str], tuple[np.ndarray, dict[str, Any]]]) -> tuple[np.ndarray, dict]:
    """Read ``file`` with ``read``, one of nnU-Net's readers, and make sure that all of it was there.

    Why NIfTI files are read twice stands in ``files.nifti_is_finite``.

    Raises
    ------
    DatasetError
        if the file cannot be read, is cut short, or holds NaN or infinity.
    """
    try:
        array_C_xyz, properties = read(str(file))
        finite = np.isfinite(array_C_xyz).all() and nifti_is_finite(file)
    except Exception as error:  # readers raise whatever their library raises
        raise DatasetError(f"{file} cannot be read ({_reason(error)}): replace it, or take the case out.") from error
    if not finite:
        raise DatasetError(f"{file} holds NaN or infinite voxels: replace them by finite numbers.")
    return array_C_xyz, properties


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rpartition("ERROR: ")[2][:160].rstrip(". ") if lines else type(error).__name__
