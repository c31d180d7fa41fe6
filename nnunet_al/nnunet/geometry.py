"""The geometry of a case under a plan: the mapping from raw voxels to preprocessed voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_al.nnunet.case_facts import CaseFacts
from nnunet_al.pool.geometry import CaseGeometry


def case_geometry(facts: CaseFacts, plans: Mapping[str, Any], configuration: str) -> CaseGeometry:
    """Compute transpose, crop and resampled shape of a case without reading its images.

    Along each transposed axis nnU-Net makes ``round(raw spacing / planned spacing * cropped voxels)`` voxels; a 2d
    configuration does not resample the first axis.
    """
    from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(dict(plans))
    forward = tuple(int(axis) for axis in manager.transpose_forward)
    spacing = [facts.spacing_mm[axis] for axis in forward]
    crop_box = tuple(facts.crop_box[axis] for axis in forward)
    planned = planned_spacing(manager.get_configuration(configuration).spacing, spacing)
    new_shape = compute_new_shape([high - low for low, high in crop_box], spacing, planned)
    return CaseGeometry(
        case=facts.case,
        raw_shape=facts.raw_shape,
        raw_spacing_mm=facts.spacing_mm,
        transpose_forward=forward,
        crop_box=crop_box,
        network_shape=tuple(int(length) for length in new_shape),
    )


def planned_spacing(planned: Sequence[float], spacing: Sequence[float]) -> list[float]:
    """Return the planned spacing of all axes: a 2d configuration plans two, and the first axis keeps its spacing."""
    return [*spacing[: len(spacing) - len(planned)], *planned]
