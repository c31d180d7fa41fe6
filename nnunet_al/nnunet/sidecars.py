"""Files beside an image that belong to it: the spacing of a 3D TIFF, which nnU-Net keeps in a ``.json``."""

from __future__ import annotations

import math
from pathlib import Path

from nnunet_al.errors import DatasetError
from nnunet_al.nnunet.case_files import CaseFiles
from nnunet_al.user_files import read_user_json


def check_sidecars(files: CaseFiles) -> None:
    """Check the files with the spacing of a case's image and label.

    Raises DatasetError if one cannot be read or gives no spacing.
    """
    for sidecar in filter(None, (files.image_sidecar(), files.label_sidecar())):
        _check(sidecar)


def _check(sidecar: Path) -> None:
    content = read_user_json(sidecar)
    spacing = content.get("spacing") if isinstance(content, dict) else None
    numbers = [
        step for step in (spacing if isinstance(spacing, list) else []) if type(step) in (int, float) and step > 0
    ]
    if spacing is None or len(numbers) != 3 or numbers != spacing or not all(map(math.isfinite, numbers)):
        raise DatasetError(
            f"{sidecar} must give the spacing of the TIFF beside it as three positive numbers, like "
            '{"spacing": [2.0, 1.0, 1.0]}: correct it.'
        )
