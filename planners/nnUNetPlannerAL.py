"""Lets nnU-Net find our planners by their names: `nnUNetv2_plan_experiment -d DATASET -pl nnUNetPlannerAL`.

Drop-in of nnunet-al; `nnUNetv2_al_install --remove` removes it from an nnU-Net install.
"""

try:
    from nnunet_al.nnunet.planning import (  # noqa: F401 -- nnU-Net looks the names up in this module
        nnUNetPlannerAL,
        nnUNetPlannerALResEncL,
        nnUNetPlannerALResEncM,
        nnUNetPlannerALResEncXL,
        nnUNetPlannerALTwoStages,
    )
except ModuleNotFoundError as error:
    # A copy left inside nnU-Net after nnunet-al was removed must not keep nnU-Net from finding its own planners.
    ours = (error.name or "").partition(".")[0] == "nnunet_al"
    if not (ours and __name__.startswith("nnunetv2.")):
        raise
