"""Training on patches as they are, as experiments without augmentation need it."""

from __future__ import annotations

from typing import Any

from nnunet_al.nnunet.no_mirroring_trainer import nnUNetTrainerALNoMirroring
from nnunet_al.nnunet.trainer import nnUNetTrainerAL


class nnUNetTrainerALNoAugmentation(nnUNetTrainerALNoMirroring):
    """nnUNetTrainerAL without data augmentation, as nnU-Net's nnUNetTrainerNoDA; predictions are not mirrored."""

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:  # noqa: N802 -- nnU-Net's
        """Return nnU-Net's rotation and flag, which nothing uses, the patch size as it is, and no mirror axes."""
        rotation, dummy_2d, _, mirror_axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        return rotation, dummy_2d, self.configuration_manager.patch_size, mirror_axes

    @staticmethod
    def get_training_transforms(*args: Any, ignore_label: int | None = None, **kwargs: Any) -> Any:
        """Return the transforms of validation patches; padding becomes the ignore label if there is one."""
        _patch_size, _rotation, deep_supervision_scales, *_mirror_axes_and_dummy_2d = args
        kwargs.pop("use_mask_for_norm", None)
        return nnUNetTrainerAL.get_validation_transforms(deep_supervision_scales, ignore_label=ignore_label, **kwargs)
