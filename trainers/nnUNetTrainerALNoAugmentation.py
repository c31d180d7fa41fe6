"""Lets nnU-Net find nnUNetTrainerALNoAugmentation by its name: `nnUNetv2_train ... -tr nnUNetTrainerALNoAugmentation`.

Drop-in of nnunet-al; `nnUNetv2_al_install --remove` removes it from an nnU-Net install.
"""

try:
    # nnU-Net looks the name up in this module
    from nnunet_al.nnunet.no_augmentation_trainer import nnUNetTrainerALNoAugmentation  # noqa: F401
except ModuleNotFoundError as error:
    # A copy left inside nnU-Net after nnunet-al was removed must not keep nnU-Net from finding its own trainers.
    ours = (error.name or "").partition(".")[0] == "nnunet_al"
    if not (ours and __name__.startswith("nnunetv2.")):
        raise
