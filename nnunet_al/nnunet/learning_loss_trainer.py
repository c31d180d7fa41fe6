"""The trainer of learning loss: besides the network it trains a module that predicts the loss of a patch."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nnunet_al.errors import ModelError, SetupError
from nnunet_al.nnunet.annotated_loss import counted_target
from nnunet_al.nnunet.checkpoints import LEARNING_LOSS_KEY, copy_loss_module, read_learning_loss
from nnunet_al.nnunet.trainer import nnUNetTrainerAL
from nnunet_al.scoring.learning_loss import LossModule, ranking_loss, stage_channels, stage_features
from nnunet_al.scoring.segmentation_loss import segmentation_loss
from nnunet_al.scoring.tensors import full_resolution

_MAX_GRADIENT_NORM = 12.0  # nnU-Net's


class nnUNetTrainerALLearningLoss(nnUNetTrainerAL):
    """Train network and loss module together (Yoo and Kweon, CVPR 2019): nnU-Net's loss + λ · ranking loss.

    From the features of the decoder (or the encoder, ``loss_features`` of the settings) the module learns to rank
    training patches by their Dice + cross-entropy at full resolution, over annotated voxels. Patches without annotated
    voxels form no pair, and a step without any pair does not change the module; 3d plans with a batch of 2 have at most
    one pair per step.

    * The module has a separate optimiser, with the type, learning rate and schedule of the network's, and separate
      gradient clipping, so nnU-Net's entries in a checkpoint are not affected.
    * Module and optimiser are saved in the checkpoint under an extra key, which stock nnU-Net ignores.
    * Fine-tuning also starts from the module of the initial checkpoint, if it holds one.
    * The network is not compiled, because hooks in a compiled network are not reliable: on a GPU a step takes longer
      than with `nnUNetTrainerAL`.
    * One GPU only.
    """

    ranking_weight = 1.0
    """λ of the paper."""
    joint_share = 0.6
    """Share of the epochs after which the ranking loss trains the module only; the paper's epoch 120 of 200."""

    loss_module: LossModule
    module_optimizer: torch.optim.Optimizer
    module_schedule: Any

    def initialize(self) -> None:
        """Build the network and the loss module, and load the initial weights of both if there are any.

        Raises SetupError if the training is distributed over several GPUs; ModelError if the initial weights do not fit
        the plans, or the network has no stages that can be read.
        """
        if self.is_ddp:
            raise SetupError("nnUNetTrainerALLearningLoss trains on one GPU: leave out -num_gpus.")
        super().initialize()
        self._seed("loss module")
        part = self.settings.loss_features
        self.loss_module = LossModule(stage_channels(self._plain_network(), part), part=part).to(self.device)
        self.module_optimizer, self.module_schedule = self.optimizer_for(self.loss_module.parameters())
        if self.settings.initial_weights is not None and not self._restoring:
            start = Path(self.settings.initial_weights)
            content = read_learning_loss(start, self.settings.trust_initial_weights)
            if content is not None:
                copy_loss_module(self.loss_module, content["module"], start)
            self.print_to_log_file("The loss module starts", "at random" if content is None else "from them, too")

    def _do_i_compile(self) -> bool:
        return False

    def on_train_epoch_start(self) -> None:
        """Set both learning rates for the epoch."""
        super().on_train_epoch_start()
        self.module_schedule.step(self.current_epoch)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do one step of network and module.

        Returns
        -------
        dict
            ``loss``: nnU-Net's loss alone, so that the curves can be compared with those of other trainers;
            ``ranking_loss``: without its weight, NaN if fewer than two patches of the batch are annotated.
        """
        data_B_C_xyz = batch["data"].to(self.device, non_blocking=True)
        target: Any = batch["target"]
        if isinstance(target, list):
            target = [scale.to(self.device, non_blocking=True) for scale in target]
        else:
            target = target.to(self.device, non_blocking=True)
        self.optimizer.zero_grad(set_to_none=True)
        self.module_optimizer.zero_grad(set_to_none=True)
        with stage_features(self._plain_network(), self.settings.loss_features) as features:
            with torch.autocast("cuda") if self.device.type == "cuda" else nullcontext():
                output = self.network(data_B_C_xyz)
                loss = self.loss(output, target)
            ranking = self._ranking(features, full_resolution(output), full_resolution(target))
        if ranking is None:
            self._optimizer_step(loss, self.optimizer)
        else:
            self._optimizer_step(loss + self.ranking_weight * ranking, self.optimizer, self.module_optimizer)
        return {
            "loss": loss.detach().cpu().numpy(),
            "ranking_loss": np.array(np.nan) if ranking is None else ranking.detach().cpu().numpy(),
        }

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """Log the epoch's losses; nnU-Net's logger has no entry for the ranking loss, so it goes into the log file."""
        super().on_train_epoch_end(train_outputs)
        rankings = np.array([output["ranking_loss"] for output in train_outputs], np.float64)
        known = rankings[~np.isnan(rankings)]
        mean = f"{known.mean():.4f}" if len(known) else "no batch had two annotated patches"
        self.print_to_log_file("ranking_loss", mean)

    def checkpoint(self) -> dict[str, Any]:
        """Return the content of nnU-Net's checkpoint, and under an extra key the module and its optimiser."""
        learning_loss = {
            "module": self.loss_module.state_dict(),
            "optimizer": self.module_optimizer.state_dict(),
            "part": self.loss_module.part,
        }
        return {**super().checkpoint(), LEARNING_LOSS_KEY: learning_loss}

    def load_checkpoint(self, filename_or_checkpoint: Any) -> None:
        """Restore a training of this trainer.

        Raises ModelError if the checkpoint was written by another trainer.
        """
        path = Path(filename_or_checkpoint)
        content = read_learning_loss(path)
        if content is None:
            raise ModelError(f"{path} holds no loss module to continue with: start the training again without --c.")
        super().load_checkpoint(filename_or_checkpoint)
        copy_loss_module(self.loss_module, content["module"], path)
        self.module_optimizer.load_state_dict(content["optimizer"])

    def _ranking(
        self, features: list[torch.Tensor], logits_B_C_xyz: torch.Tensor, target_B_C_xyz: torch.Tensor
    ) -> torch.Tensor | None:
        """Return the ranking loss over the annotated patches; None if there are fewer than two."""
        exclusive = not self.label_manager.has_regions
        ignore = self.label_manager.ignore_label
        target, counted_B_xyz = counted_target(target_B_C_xyz, exclusive, ignore)
        annotated_B = counted_B_xyz.flatten(1).any(1)
        if int(annotated_B.sum()) < 2:
            return None
        with torch.no_grad():
            loss_B = segmentation_loss(logits_B_C_xyz.float(), target, counted_B_xyz, exclusive)
        if self.current_epoch >= self.joint_share * self.num_epochs:
            features = [map_B_C_xyz.detach() for map_B_C_xyz in features]
        predicted_B = self.loss_module(features)
        return ranking_loss(predicted_B[annotated_B], loss_B[annotated_B], self.settings.loss_margin)

    def _optimizer_step(self, total: torch.Tensor, *optimizers: torch.optim.Optimizer) -> None:
        """Step as nnU-Net does; only with optimisers that have gradients, because the scaler refuses the others."""
        scaler = self.grad_scaler
        (total if scaler is None else scaler.scale(total)).backward()
        for optimizer in optimizers:
            if scaler is not None:
                scaler.unscale_(optimizer)
            parameters = [one for group in optimizer.param_groups for one in group["params"]]
            nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT_NORM)
            if scaler is not None:
                scaler.step(optimizer)
            else:
                optimizer.step()
        if scaler is not None:
            scaler.update()
