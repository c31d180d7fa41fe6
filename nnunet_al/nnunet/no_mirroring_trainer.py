"""Training without mirroring, for classes that are told apart by their side."""

from __future__ import annotations

from typing import Any

from nnunet_al.nnunet.trainer import nnUNetTrainerAL


class nnUNetTrainerALNoMirroring(nnUNetTrainerAL):
    """nnUNetTrainerAL that never mirrors, neither in training nor in prediction, as nnU-Net's nnUNetTrainerNoMirroring.

    In a mirrored image the left one of two structures looks like the right one, and is still labelled as the left one.
    """

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:  # noqa: N802 -- nnU-Net's
        """Return nnU-Net's rotation, whether slices are augmented, its initial patch size, and no axis to mirror."""
        rotation, dummy_2d, initial_patch_size, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self.inference_allowed_mirroring_axes = None
        return rotation, dummy_2d, initial_patch_size, None
