"""Train the model of one round, resumable at every epoch."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import torch
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_al.errors import SetupError
from nnunet_al.nnunet.dropin import trainer_folder
from nnunet_al.nnunet.environment import Roots, quiet, using, variables
from nnunet_al.nnunet.trainer import nnUNetTrainerAL


def torch_device(name: str) -> torch.device:
    """Return the device that ``-device`` names.

    Raises
    ------
    SetupError
        if torch sees no such device.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(name, False):
        usable = " or ".join(device for device, there in available.items() if there)
        raise SetupError(f"-device {name} is not available here: use {usable}.")
    return torch.device(name)


def with_trainers() -> dict[str, str]:
    """Return the variables with which nnU-Net finds our trainers beside those that a user has named already."""
    folders = [str(trainer_folder()), *filter(None, os.environ.get("nnUNet_extTrainer", "").split(os.pathsep))]
    return {"nnUNet_extTrainer": os.pathsep.join(dict.fromkeys(folders))}


def require_trainer(name: str, base: str | None = None) -> None:
    """Check that nnU-Net finds a trainer of this name, that it is one of ours and, if asked, one of a kind.

    Parameters
    ----------
    name
        the trainer's class.
    base
        name of the class that it must be or be derived from, where a strategy asks for one.

    Raises
    ------
    SetupError
        if it does not, the trainer is not derived from ``nnUNetTrainerAL``, or not of the kind.
    """
    with variables(**with_trainers()), quiet():
        try:
            found = recursive_find_trainer_class_by_name(name)
        except RuntimeError:
            raise SetupError(
                f"-tr {name}: nnU-Net finds no such trainer; add its folder to the variable nnUNet_extTrainer."
            ) from None
    if not issubclass(found, nnUNetTrainerAL):
        raise SetupError(
            f"-tr {name} would train on what nobody annotated: derive it from nnUNetTrainerAL, or leave -tr out."
        )
    if base is not None and base not in {ancestor.__name__ for ancestor in found.__mro__}:
        raise SetupError(f"-tr {name} does not train what the strategy needs: derive it from {base}, or leave -tr out.")


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
) -> None:
    """Train in the round's view until the checkpoint ``final`` exists; continues where an interrupted call stopped."""
    if final.is_file():
        return
    with using(view, **with_trainers()), quiet(log) if log is not None else nullcontext():
        began = (final.parent / "checkpoint_latest.pth").is_file()
        nnunet_trainer = get_trainer_from_args(dataset, configuration, fold, trainer, plans, began, device=device)
        maybe_load_checkpoint(nnunet_trainer, continue_training=began, validation_only=False)
        nnunet_trainer.run_training()
