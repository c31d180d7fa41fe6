"""Train the model of one round, resumable at every epoch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_al.errors import SetupError
from nnunet_al.files import read_json
from nnunet_al.nnunet.checkpoints import can_continue
from nnunet_al.nnunet.distributed import check_gpus, run_distributed
from nnunet_al.nnunet.dropin import trainer_folder
from nnunet_al.nnunet.environment import Roots, environment_variables, nnunet_folders, quiet
from nnunet_al.nnunet.trainer import nnUNetTrainerAL
from nnunet_al.nnunet.trainer_settings import TrainerSettings, training_hash
from nnunet_al.terminal import say


def trainer_variables() -> dict[str, str]:
    """Return the environment variable with which nnU-Net finds our trainers and those of the user."""
    folders = [str(trainer_folder()), *filter(None, os.environ.get("nnUNet_extTrainer", "").split(os.pathsep))]
    return {"nnUNet_extTrainer": os.pathsep.join(dict.fromkeys(folders))}


def require_trainer(name: str, base: str | None = None) -> None:
    """Check that nnU-Net finds a trainer of this name, and that it is derived from the required classes.

    ``base`` is the class that the strategy requires, if it requires one.

    Raises SetupError if there is no such trainer, or if it is not derived from ``nnUNetTrainerAL`` and ``base``.
    """
    with environment_variables(**trainer_variables()), quiet():
        try:
            found = recursive_find_trainer_class_by_name(name)
        except RuntimeError:
            raise SetupError(
                f"-tr {name}: nnU-Net finds no such trainer; add its folder to the variable nnUNet_extTrainer."
            ) from None
    if not issubclass(found, nnUNetTrainerAL):
        raise SetupError(
            f"-tr {name} would train on unannotated voxels: derive it from nnUNetTrainerAL, or leave -tr out."
        )
    if base is not None and base not in {ancestor.__name__ for ancestor in found.__mro__}:
        raise SetupError(f"-tr {name} does not suit the strategy: derive it from {base}, or leave -tr out.")


def train(
    view: Roots,
    dataset: str,
    configuration: str,
    fold: int,
    trainer: str,
    plans: str,
    device: torch.device,
    final: Path,
    log: Path | None,
    gpus: int = 1,
) -> None:
    """Train in the round's view until the checkpoint ``final`` exists; an interrupted training is continued.

    With several ``gpus``, one process per GPU shares the batch, as with nnU-Net's ``-num_gpus``.

    Raises SetupError if fewer GPUs are available, or they cannot share the batch; KeyboardInterrupt if the process was
    asked to stop (see `nnunet_al.stopping`) or interrupted.
    """
    training = training_hash(view.preprocessed / dataset, configuration, fold)
    latest = final.parent / "checkpoint_latest.pth"
    for checkpoint in (final, latest):
        if checkpoint.is_file() and not can_continue(checkpoint, training):
            say(f"    {checkpoint} is damaged, or of another training: training begins anew")
            checkpoint.unlink()
    if final.is_file():
        return
    if gpus != 1:
        check_gpus(device, gpus, *_batch(view, dataset, configuration, plans))
    began = latest.is_file()
    work = partial(_train_here, dataset, configuration, fold, trainer, plans, device, began)
    with nnunet_folders(view, **trainer_variables()):
        if gpus == 1:
            with quiet(log) if log is not None else nullcontext():
                work()
        elif not run_distributed(work, gpus, device, log):
            raise KeyboardInterrupt


def _train_here(
    dataset: str, configuration: str, fold: int, trainer: str, plans: str, device: torch.device, began: bool
) -> None:
    nnunet_trainer = get_trainer_from_args(dataset, configuration, fold, trainer, plans, began, device=device)
    maybe_load_checkpoint(nnunet_trainer, continue_training=began, validation_only=False)
    with _convolutions_as_nnunet():
        nnunet_trainer.run_training()


@contextmanager
def _convolutions_as_nnunet() -> Iterator[None]:
    """Let cuDNN choose the fastest convolution on a GPU, as nnU-Net's own command does, inside the ``with`` block."""
    flags = torch.backends.cudnn
    before = flags.benchmark, flags.deterministic
    try:
        if torch.cuda.is_available():
            flags.benchmark, flags.deterministic = True, False
        yield
    finally:
        flags.benchmark, flags.deterministic = before


def _batch(view: Roots, dataset: str, configuration: str, plans: str) -> tuple[int, bool]:
    """Return the batch size, and whether the Dice loss is computed over the whole batch."""
    folder = view.preprocessed / dataset
    planned = PlansManager(read_json(folder / f"{plans}.json")).get_configuration(configuration)
    return TrainerSettings.read(folder).batch_size or int(planned.batch_size), bool(planned.batch_dice)
