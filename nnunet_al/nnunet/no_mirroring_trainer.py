"""Training without mirroring, for classes that differ only in being left or right."""

from __future__ import annotations

from typing import Any

from nnunet_al.nnunet.trainer import nnUNetTrainerAL


class nnUNetTrainerALNoMirroring(nnUNetTrainerAL):
    """nnUNetTrainerAL without mirroring in training and prediction, as in nnU-Net's nnUNetTrainerNoMirroring.

    In a mirrored image the left one of two structures looks like the right one, but keeps the label of the left one.
    """

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:  # noqa: N802 -- nnU-Net's
        """Return nnU-Net's rotation, its flag for 2d augmentation, its initial patch size, and no mirror axes."""
        rotation, dummy_2d, initial_patch_size, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self.inference_allowed_mirroring_axes = None
        return rotation, dummy_2d, initial_patch_size, None
