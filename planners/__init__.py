"""Planners for `nnUNetv2_plan_experiment -pl`, which `nnUNetv2_al_install` puts into the nnU-Net install."""
