"""Detect broken files that SimpleITK reads without an error: truncated NIfTI files, and NIfTI voxels that are NaN."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.errors import DatasetError
from nnunet_al.files import nifti_is_finite
from nnunet_al.user_files import is_pointer


def read_intact(file: Path, read: Callable[[str], tuple[np.ndarray, dict[str, Any]]]) -> tuple[np.ndarray, dict]:
    """Read ``file`` with ``read``, one of nnU-Net's readers, and check that it is complete and finite.

    NIfTI files are read twice; the reason is given in ``files.nifti_is_finite``.

    Raises DatasetError if the file cannot be read, is truncated, or holds NaN or infinity.
    """
    try:
        with redirect_stdout(StringIO()):  # nnU-Net's warnings, for example that a TIFF has no file with its spacing
            array_C_xyz, properties = read(str(file))
        finite = np.isfinite(array_C_xyz).all() and nifti_is_finite(file)
    except Exception as error:  # readers raise the errors of their libraries
        if is_pointer(file):
            raise DatasetError(
                f"{file} only names its content: fetch that with git annex get, datalad get or git lfs pull."
            ) from error
        raise DatasetError(f"{file} cannot be read ({_reason(error)}): replace it, or remove the case.") from error
    if not finite:
        raise DatasetError(f"{file} holds NaN or infinite voxels: replace them by finite numbers.")
    return array_C_xyz, properties


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rpartition("ERROR: ")[2][:160].rstrip(". ") if lines else type(error).__name__
