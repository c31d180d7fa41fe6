"""Planners for `nnUNetv2_plan_experiment -pl`, once `nnUNetv2_al_install` has put them where nnU-Net looks."""
