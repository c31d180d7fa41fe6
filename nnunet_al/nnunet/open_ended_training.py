"""A trainer whose training may end by itself: nnU-Net fixes the number of epochs and the learning rates beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_al.nnunet.trainer_settings import TrainerSettings
from nnunet_al.nnunet.training_length import constant_epochs, held_out, shortest_constant, total_epochs


class OpenEndedTraining(nnUNetTrainer):
    """Decide after each epoch, from the logged history alone, whether the training goes on.

    Where many cases are annotated, a tenth of them is held out to judge the training, and joins it when the rate
    begins to fall: no annotation is wasted. Else the training cases judge it, which measures fit.
    """

    settings: TrainerSettings
    logger: Any
    current_epoch: int
    dataloader_train: Any
    dataloader_val: Any
    constant_epochs: int | None = None
    """Epochs of constant learning rate; None while they go on."""
    _held_out: Sequence[str] = ()
    _judges_apart = False

    @property
    def ends_by_itself(self) -> bool:
        """Whether the training ends once it has stopped gaining."""
        return self.settings.epochs == "auto"

    def run_training(self) -> None:
        """Train as nnU-Net does, for as long as it is worth it."""
        if not self.ends_by_itself:
            super().run_training()
            return
        self.do_split()  # says who judges
        self._decide_length()
        self.on_train_start()
        judge = "cases that are held out" if self._judges_apart else "training cases, since few are annotated"
        self.print_to_log_file(f"The training ends once it has stopped gaining, judged on {judge}.")
        while self.current_epoch < self.num_epochs:
            self._run_epoch()
        self.on_train_end()

    def do_split(self) -> tuple[list[str], list[str]]:
        """Return nnU-Net's training and validation list; the cases that judge are in one of them only."""
        training, validation = super().do_split()
        if not self.ends_by_itself:
            return training, validation
        measures_fit = {*validation} <= {*training}
        held = held_out(training) if measures_fit else []
        self._held_out, self._judges_apart = held, bool(held) or not measures_fit
        if not held or self.constant_epochs is not None:
            return training, validation
        return [case for case in training if case not in {*held}], held

    def length(self) -> tuple[int | None, int]:
        """Return the epochs of constant rate, if known, and all epochs."""
        return self.constant_epochs, self.num_epochs

    def _run_epoch(self) -> None:
        self.on_epoch_start()
        self.on_train_epoch_start()
        steps = range(self.num_iterations_per_epoch)
        self.on_train_epoch_end([self.train_step(next(self.dataloader_train)) for _ in steps])
        with torch.no_grad():
            self.on_validation_epoch_start()
            steps = range(self.num_val_iterations_per_epoch)
            self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val)) for _ in steps])
        was_constant = self.constant_epochs is None
        self._decide_length()
        self.on_epoch_end()
        if was_constant and self.constant_epochs is not None:
            falling = self.num_epochs - self.constant_epochs
            self.print_to_log_file(f"It has stopped gaining: the learning rate falls over {falling} more epochs.")
            if self._held_out and falling:
                self._load_all_cases()

    def _decide_length(self) -> None:
        judged = "val_losses" if self._judges_apart else "train_losses"
        losses, dice = (self.logger.get_value(name, None) for name in (judged, "mean_fg_dice"))
        shortest = shortest_constant(self.settings.iterations)
        self.constant_epochs = constant_epochs(losses, dice, shortest, self.settings.max_epochs)
        self.num_epochs = total_epochs(self.constant_epochs, self.settings.max_epochs)

    def _load_all_cases(self) -> None:
        for loader in (self.dataloader_train, self.dataloader_val):
            if hasattr(loader, "_finish"):  # of processes that augment
                loader._finish()
        self.dataloader_train, self.dataloader_val = self.get_dataloaders()
