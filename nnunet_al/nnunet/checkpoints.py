"""Checkpoints: written completely or not at all; as a start for fine-tuning, every weight or none."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import nn

from nnunet_al.errors import ModelError
from nnunet_al.files import write_atomically

_WRAPPERS = ("module.", "_orig_mod.")
_NAMED = 3


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint completely or not at all.

    Raises
    ------
    StorageError
        if the disk is full; an earlier checkpoint of that name stays as it was.
    """
    write_atomically(path, lambda temporary: _save(checkpoint, temporary))


def load_network_weights(network: nn.Module, checkpoint: Path, plans: str) -> None:
    """Copy all weights of a checkpoint into a network of the same architecture.

    nnU-Net's ``-pretrained_weights`` always leaves the output heads out; between rounds they are worth keeping.

    Parameters
    ----------
    network
        the plain network, not wrapped for distributed training or compiled.
    checkpoint
        a ``checkpoint_*.pth`` of nnU-Net, whatever the device it was trained on.
    plans
        what the network was built from, for the message.

    Raises
    ------
    ModelError
        if the checkpoint cannot be read, or names or shapes of layers differ; the network is unchanged then.
    """
    weights = read_network_weights(checkpoint)
    own = network.state_dict()
    differences = [
        f"{name} ({_shape(weights.get(name))} in the checkpoint, {_shape(own.get(name))} in the plans)"
        for name in dict.fromkeys([*own, *weights])
        if _shape(weights.get(name)) != _shape(own.get(name))
    ]
    if differences:
        more = f" and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
        raise ModelError(
            f"{checkpoint} does not fit the plans {plans}, which differ in {', '.join(differences[:_NAMED])}{more}: "
            f"start from weights trained with these plans, or from scratch."
        )
    network.load_state_dict(weights)


def read_network_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Read a checkpoint's network weights, on the CPU, under the names that the plain network gives them.

    Raises
    ------
    ModelError
        if the file is missing, broken, or not a checkpoint of nnU-Net.
    """
    try:
        # nnU-Net's checkpoints hold more than tensors (plans, numpy scalars), which only a full unpickling reads
        content = torch.load(checkpoint, map_location="cpu", weights_only=False)
        weights = content["network_weights"]
        return {_plain_name(name): value for name, value in weights.items()}
    except FileNotFoundError as error:
        raise ModelError(f"The checkpoint {checkpoint} does not exist: give the path of a file that does.") from error
    except (OSError, EOFError, RuntimeError, BadZipFile, pickle.UnpicklingError) as error:
        raise ModelError(f"The checkpoint {checkpoint} cannot be read ({error}): it is broken, use another.") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{checkpoint} holds no network weights: give a checkpoint_*.pth of nnU-Net.") from error


def _save(checkpoint: dict[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch hides a full disk behind an error of its own
            raise error.__context__ from None
        raise


def _plain_name(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.removeprefix(_WRAPPERS[0]).removeprefix(_WRAPPERS[1])
    return name


def _shape(tensor: torch.Tensor | None) -> str:
    return "missing" if tensor is None else "x".join(str(size) for size in tensor.shape) or "scalar"
