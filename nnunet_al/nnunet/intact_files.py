"""Detect broken files that SimpleITK reads without an error: truncated NIfTI files, and NIfTI voxels that are NaN."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.errors import DatasetError
from nnunet_al.files import nifti_is_finite


def read_intact(file: Path, read: Callable[[str], tuple[np.ndarray, dict[str, Any]]]) -> tuple[np.ndarray, dict]:
    """Read ``file`` with ``read``, one of nnU-Net's readers, and check that it is complete and finite.

    NIfTI files are read twice; the reason is given in ``files.nifti_is_finite``.

    Raises DatasetError if the file cannot be read, is truncated, or holds NaN or infinity.
    """
    try:
        array_C_xyz, properties = read(str(file))
        finite = np.isfinite(array_C_xyz).all() and nifti_is_finite(file)
    except Exception as error:  # readers raise the errors of their libraries
        raise DatasetError(f"{file} cannot be read ({_reason(error)}): replace it, or remove the case.") from error
    if not finite:
        raise DatasetError(f"{file} holds NaN or infinite voxels: replace them by finite numbers.")
    return array_C_xyz, properties


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rpartition("ERROR: ")[2][:160].rstrip(". ") if lines else type(error).__name__
