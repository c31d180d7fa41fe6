"""nnU-Net's trainer for rounds of active learning: resumable exactly, fine-tuning, annotated voxels only.

The network has dropout during training; checkpoints are those of nnU-Net, so that stock nnU-Net can predict with them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunet_al.files import remove_temporary_files
from nnunet_al.nnunet.annotated_loss import CrossEntropy
from nnunet_al.nnunet.checkpoints import TRAINED_HEADS_KEY, TRAINING_KEY, load_network_weights, write_checkpoint
from nnunet_al.nnunet.loading import PADDING_AWARE, deterministic_blur, padding_to_ignore_label
from nnunet_al.nnunet.open_ended_training import OpenEndedTraining
from nnunet_al.nnunet.trainer_settings import TrainerSettings, training_hash
from nnunet_al.nnunet.training_length import PlateauSchedule
from nnunet_al.nnunet.training_precision import compute_in
from nnunet_al.scoring.dropout import insert_dropout
from nnunet_al.seeding import derive_seed
from nnunet_al.stopping import is_asked_to_stop, stop_if_asked

_SECONDS_BETWEEN_PLOTS = 60.0


class nnUNetTrainerAL(OpenEndedTraining):
    """Train on annotated voxels only, from given weights, with dropout, saving each epoch.

    Settings come from ``nnUNetTrainerAL.json`` beside the plans (see ``TrainerSettings``). Differences from nnU-Net:

    * if the dataset has an ignore label, padding beyond the image's border is ignored instead of background;
    * activations of bottleneck and decoder have channel dropout in training (never in evaluation);
    * with ``epochs`` "auto" a training ends once it has stopped gaining (`OpenEndedTraining`);
    * the network computes in the precision of the settings, loss and weights stay float32;
    * with a seed, torch, numpy and random are seeded at each epoch's start from (seed, round, fold, epoch), so that on
      a CPU with ``nnUNet_n_proc_DA=0`` a killed and resumed training ends with the same weights as an uninterrupted
      one, while the folds of one round differ;
    * checkpoints are complete or absent, and name ``nnUNetTrainer`` as their trainer, whose network is the same.
    """

    dataset_class: Any
    configuration_manager: Any

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int | str,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 -- nnU-Net's signature
    ) -> None:
        """Take nnU-Net's arguments and read the settings beside the plans."""
        super().__init__(plans, configuration, fold, dataset_json, device)
        folder = self.preprocessed_dataset_folder_base
        self.settings = TrainerSettings.read(Path(folder)) if folder is not None else TrainerSettings()
        self.num_epochs = self.settings.most_epochs
        self.num_iterations_per_epoch = self.settings.iterations
        self.num_val_iterations_per_epoch = self.settings.validation_iterations
        self.initial_lr = self.settings.initial_learning_rate
        self.weight_decay = self.settings.weight_decay
        if self.settings.save_every_epoch:
            self.save_every = 1
        self.logger = _ThrottledPlots(self.logger)
        self._restoring = False

    def initialize(self) -> None:
        """Build the network with dropout and load the initial weights, unless a checkpoint is about to be restored.

        Raises ModelError if the initial weights do not fit the plans.
        """
        self._seed("network")
        super().initialize()
        network = self._plain_network()
        if self.settings.dropout_p > 0:
            insert_dropout(network, self.settings.dropout_p, self.settings.dropout, self.settings.dropout_of)
        compute_in(self.settings.precision, network, self.device)
        if self.settings.initial_weights is not None and not self._restoring:
            plans = f"{self.plans_manager.plans_name} ({self.configuration_name})"
            heads, trusted = self.settings.initial_heads == "kept", self.settings.trust_initial_weights
            load_network_weights(network, Path(self.settings.initial_weights), plans, heads, trusted)
            but = "" if heads else ", except the output heads"
            self.print_to_log_file(f"Starting from the weights of {self.settings.initial_weights}{but}")
        if self.label_manager.has_ignore_label:
            self.dataset_class = PADDING_AWARE[self.dataset_class]

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """Return nnU-Net's datasets for training and validation, with patch centres limited to the image."""
        datasets = super().get_tr_and_val_datasets()
        if self.label_manager.has_ignore_label:
            for dataset in datasets:
                dataset.patch_size = tuple(self.configuration_manager.patch_size)
        return datasets

    def _set_batch_size_and_oversample(self) -> None:
        if self.settings.batch_size is not None:
            # a copy, because the plans are saved with the model and must stay as the planner wrote them
            changed = {**self.configuration_manager.configuration, "batch_size": self.settings.batch_size}
            self.configuration_manager = ConfigurationManager(changed)
        super()._set_batch_size_and_oversample()

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """Return optimiser and schedule: nnU-Net's SGD or Adam(W), under nnU-Net's polynomial decay or our plateau."""
        return self.optimizer_for(self.network.parameters())

    def optimizer_for(self, parameters: Iterable[nn.Parameter]) -> tuple[torch.optim.Optimizer, Any]:
        """Return a new optimiser of the type in the settings, and its schedule."""
        optimizer: torch.optim.Optimizer
        if self.settings.optimizer in ("adamw", "adam"):
            # equal without weight decay
            optimizer = torch.optim.AdamW(parameters, lr=self.initial_lr, weight_decay=self.weight_decay)
        else:
            optimizer = torch.optim.SGD(
                parameters, lr=self.initial_lr, weight_decay=self.weight_decay, momentum=0.99, nesterov=True
            )
        if self.ends_by_itself:
            return optimizer, PlateauSchedule(optimizer, self.initial_lr, self.length)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def _build_loss(self) -> nn.Module:
        with np.errstate(invalid="ignore"):
            loss = super()._build_loss()
        if self.enable_deep_supervision and len(self._get_deep_supervision_scales()) == 1:
            # nnU-Net sets the weight of the lowest output to 0 and normalises, so that two stages give 0 / 0
            loss.weight_factors = (1.0,)
        if self.settings.loss == "dice_ce":
            return loss
        alone = CrossEntropy(not self.label_manager.has_regions, self.label_manager.ignore_label)
        if not self.enable_deep_supervision:
            return alone
        loss.loss = alone
        return loss

    @staticmethod
    def get_training_transforms(*args: Any, ignore_label: int | None = None, **kwargs: Any) -> Any:
        """Return nnU-Net's augmentation, made reproducible; padding becomes the ignore label if there is one."""
        transforms = nnUNetTrainer.get_training_transforms(*args, ignore_label=ignore_label, **kwargs)
        transforms = deterministic_blur(transforms)
        return transforms if ignore_label is None else padding_to_ignore_label(transforms, ignore_label)

    @staticmethod
    def get_validation_transforms(*args: Any, ignore_label: int | None = None, **kwargs: Any) -> Any:
        """Return nnU-Net's transforms of validation patches; padding becomes the ignore label if there is one."""
        transforms = nnUNetTrainer.get_validation_transforms(*args, ignore_label=ignore_label, **kwargs)
        return transforms if ignore_label is None else padding_to_ignore_label(transforms, ignore_label)

    def on_train_start(self) -> None:
        """Remove incomplete files of a killed training, then prepare the training."""
        if self.local_rank == 0:
            remove_temporary_files(Path(self.output_folder))
        super().on_train_start()

    def on_epoch_start(self) -> None:
        """Seed the epoch, so that it does not depend on whether earlier epochs ran in this process."""
        self._seed(self.current_epoch)
        super().on_epoch_start()

    def on_epoch_end(self) -> None:
        """Log and save the epoch, and stop after it if that was requested.

        ``checkpoint_latest`` is written last, after the best score was updated: nnU-Net's own order saves it with the
        old score, and a resumed training could then replace ``checkpoint_best`` by a worse one.

        Raises KeyboardInterrupt if the process was asked to stop (see `nnunet_al.stopping`); never after the last
        epoch.
        """
        epoch = self.current_epoch
        last = epoch == self.num_epochs - 1
        self.logger.last_epoch = last
        every, self.save_every = self.save_every, sys.maxsize
        super().on_epoch_end()
        self.save_every = every
        if (epoch + 1) % every == 0 and not last:
            self.current_epoch = epoch  # a checkpoint names the epoch after the current one
            self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_latest.pth"))
            self.current_epoch = epoch + 1
            self._stop_if_asked()

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint that stock nnU-Net can resume from and predict with, completely or not at all.

        Raises StorageError if the disk is full; an earlier checkpoint of that name stays as it was.
        """
        if self.local_rank != 0:
            return
        if self.disable_checkpointing:
            self.print_to_log_file("No checkpoint written, checkpointing is disabled")
            return
        write_checkpoint(self.checkpoint(), Path(filename))

    def checkpoint(self) -> dict[str, Any]:
        """Return the content of a checkpoint of the current epoch, under nnU-Net's keys."""
        return {
            "network_weights": self._plain_network().state_dict(),
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": None if self.grad_scaler is None else self.grad_scaler.state_dict(),
            "logging": self.logger.get_checkpoint(),
            "_best_ema": self._best_ema,
            "current_epoch": self.current_epoch + 1,
            "init_args": self.my_init_kwargs,
            "trainer_name": nnUNetTrainer.__name__,  # so that prediction does not need this package
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
            # nnU-Net gives the lowest head 0, or 1e-6 with several GPUs
            TRAINING_KEY: self.training_hash,
            TRAINED_HEADS_KEY: sum(weight > 1e-5 for weight in getattr(self.loss, "weight_factors", (1.0,))),
        }

    @cached_property
    def training_hash(self) -> str:
        """See `training_hash`; empty outside a campaign."""
        folder = self.preprocessed_dataset_folder_base
        return "" if folder is None else training_hash(Path(folder), self.configuration_name, self.fold)

    def load_checkpoint(self, filename_or_checkpoint: Any) -> None:
        """Restore a training; its initial weights are not read again."""
        self._restoring = True
        try:
            super().load_checkpoint(str(filename_or_checkpoint))
        finally:
            self._restoring = False

    def _stop_if_asked(self) -> None:
        if not self.is_ddp:
            stop_if_asked()
            return
        # all processes must stop after the same epoch, or those that go on wait for the others forever
        asked = [False] * dist.get_world_size()
        dist.all_gather_object(asked, is_asked_to_stop())
        if any(asked):
            raise KeyboardInterrupt

    def _plain_network(self) -> nn.Module:
        """Return the network without the wrappers of distributed training and compilation."""
        network = self.network.module if self.is_ddp else self.network
        return getattr(network, "_orig_mod", network)

    def _seed(self, purpose: int | str) -> None:
        if self.settings.seed is None:
            return
        # in distributed training all processes need the same initial weights but different augmentation
        rank = (self.local_rank,) if self.is_ddp and purpose != "network" else ()
        seed = derive_seed(self.settings.seed, self.settings.round, f"fold {self.fold}", purpose, *rank)
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)


class _ThrottledPlots:
    """nnU-Net's logger, except that it draws progress.png at most once a minute and after the last epoch.

    Drawing takes a second or more, as long as a short epoch.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._drawn_at = monotonic()
        self.last_epoch = False

    def plot_progress_png(self, output_folder: str) -> None:
        """Draw if a minute has passed, or after the last epoch."""
        if self.last_epoch or monotonic() - self._drawn_at >= _SECONDS_BETWEEN_PLOTS:
            self._logger.plot_progress_png(output_folder)
            self._drawn_at = monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)
