"""Checkpoints: written completely or not at all, and loaded for fine-tuning, with the output heads or without."""

from __future__ import annotations

import pickle
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import nn

from nnunet_al.errors import ModelError
from nnunet_al.files import write_atomically
from nnunet_al.nnunet.checked_loading import load_checked
from nnunet_al.scoring.learning_loss import LossModule, stage_channels
from nnunet_al.text import first_names

LEARNING_LOSS_KEY = "nnunet_al_learning_loss"
"""Key of a checkpoint for the loss module and its optimiser, which stock nnU-Net does not read."""

TRAINED_HEADS_KEY = "nnunet_al_trained_heads"
"""Key of a checkpoint for the number of deep-supervision heads whose weight in the loss is above 0."""

TRAINING_KEY = "nnunet_al_training"
"""Key of a checkpoint for a hash of the inputs of its training, so that no other training goes on from it."""

_HEADS = ".seg_layers."  # as nnU-Net knows them
_WRAPPERS = ("module.", "_orig_mod.")
_NAMED = 3
_BROKEN = (
    *(OSError, EOFError, RuntimeError, BadZipFile, pickle.UnpicklingError),
    *(AttributeError, IndexError, KeyError, TypeError, ValueError),  # a pickle that was cut or changed
)


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint completely or not at all.

    Raises StorageError if the disk is full; an earlier checkpoint of that name stays as it was.
    """
    write_atomically(path, lambda temporary: _save(checkpoint, temporary))


def can_continue(checkpoint: Path, training: str) -> bool:
    """Tell whether a checkpoint is whole, by the checksums of its parts, and of the ``training`` with this hash.

    Checkpoints of earlier versions do not tell which training they are of.
    """
    try:
        with ZipFile(checkpoint) as archive:
            if archive.testzip() is not None:  # torch.load looks at no checksum
                return False
        return read_checkpoint(checkpoint).get(TRAINING_KEY, training) == training
    except (OSError, BadZipFile, zlib.error, ModelError, ValueError, NotImplementedError):
        return False


def load_network_weights(
    network: nn.Module, checkpoint: Path, plans: str, heads: bool = True, trusted: bool = True
) -> None:
    """Copy all weights of a checkpoint into a network of the same architecture.

    From round to round the output heads are kept; without ``heads`` they are left out, and may be of other classes, as
    with nnU-Net's ``-pretrained_weights``. The network must not be wrapped for distributed training or compiled;
    ``plans`` is the name of its plans, for the message. A file that is not ``trusted`` is read by `load_checked`.

    Raises ModelError if the checkpoint cannot be read, or names or shapes of layers differ; the network is unchanged
    then.
    """
    copy_weights(network, read_network_weights(checkpoint, trusted), checkpoint, plans, heads)


def copy_weights(
    network: nn.Module, weights: dict[str, torch.Tensor], checkpoint: Path, plans: str, heads: bool = True
) -> None:
    """Copy weights that were read from ``checkpoint`` into a network, as `load_network_weights` does.

    Raises ModelError if names or shapes of layers differ; the network is unchanged then.
    """
    current = network.state_dict()
    differences = [
        f"{name} ({_shape(weights.get(name))} in the checkpoint, {_shape(current.get(name))} in the plans)"
        for name in different_layers(network, weights)
        if heads or not is_head(name)
    ]
    if differences:
        raise ModelError(
            f"{checkpoint} does not fit the plans {plans}, which differ in {first_names(differences, _NAMED)}: "
            f"start from weights trained with these plans, or from scratch."
        )
    network.load_state_dict({name: weights[name] if heads or not is_head(name) else current[name] for name in current})


def different_layers(network: nn.Module, weights: dict[str, torch.Tensor]) -> list[str]:
    """Return the names of layers that only one of the two has, or that have another shape."""
    current = network.state_dict()
    names = dict.fromkeys([*current, *weights])
    return [name for name in names if _shape(weights.get(name)) != _shape(current.get(name))]


def is_head(name: str) -> bool:
    """Whether the weights of this name belong to an output head, whose size is the number of classes."""
    return _HEADS in name


def read_network_weights(checkpoint: Path, trusted: bool = True) -> dict[str, torch.Tensor]:
    """Read a checkpoint's network weights to the CPU, under the names of the plain network.

    Raises ModelError if the file is missing, broken, or not a checkpoint of nnU-Net.
    """
    return network_weights(read_checkpoint(checkpoint, trusted), checkpoint)


def network_weights(content: dict[str, Any], checkpoint: Path) -> dict[str, torch.Tensor]:
    """Return the network weights of a checkpoint's content, under the names of the plain network.

    Raises ModelError if it holds none.
    """
    weights = content.get("network_weights")
    if not (isinstance(weights, dict) and all(isinstance(value, torch.Tensor) for value in weights.values())):
        raise ModelError(f"{checkpoint} holds no network weights: give a checkpoint_*.pth of nnU-Net.")
    return {_plain_name(str(name)): value for name, value in weights.items()}


def read_checkpoint(checkpoint: Path, trusted: bool = True) -> dict[str, Any]:
    """Read a checkpoint to the CPU; one that is not ``trusted``, because a user gave it, by `load_checked`.

    Raises ModelError if the file is missing or broken, or holds more than it may; a file that holds something else than
    a checkpoint is an empty one.
    """
    try:
        if trusted:
            content = torch.load(checkpoint, map_location="cpu", weights_only=False)
        else:
            content = load_checked(checkpoint)
    except FileNotFoundError as error:
        raise ModelError(f"The checkpoint {checkpoint} does not exist: give the path of a file that does.") from error
    except (*_BROKEN, ImportError) as error:
        reason = str(error).partition("\n")[0] or "it is empty"
        raise ModelError(
            f"The checkpoint {checkpoint} cannot be read ({reason}): it is broken, use another."
        ) from error
    return content if isinstance(content, dict) else {}


def read_mirror_axes(checkpoint: Path) -> tuple[int, ...]:
    """Return the spatial axes, counted from 0, along which nnU-Net mirrors when it predicts with a checkpoint.

    Raises ModelError if the file is missing or broken.
    """
    return tuple(read_checkpoint(checkpoint).get("inference_allowed_mirroring_axes") or ())


def read_learning_loss(checkpoint: Path, trusted: bool = True) -> dict[str, Any] | None:
    """Read the entry of ``nnUNetTrainerALLearningLoss``; ``None`` if another trainer wrote the checkpoint.

    Raises ModelError if the file is missing or broken.
    """
    content: dict[str, Any] | None = read_checkpoint(checkpoint, trusted).get(LEARNING_LOSS_KEY)
    return content


def trained_heads(checkpoint: Path) -> int | None:
    """Read how many of the network's heads, from full resolution down, had a weight in the loss; None if unknown.

    Raises ModelError if the file is missing or broken.
    """
    count: int | None = read_checkpoint(checkpoint).get(TRAINED_HEADS_KEY)
    return count


def load_loss_module(checkpoint: Path, network: nn.Module) -> LossModule:
    """Build the loss module of a checkpoint, on the device of its network and in evaluation mode.

    Raises ModelError if the file is missing or broken, holds no loss module, or that of another network.
    """
    content = read_learning_loss(checkpoint)
    if content is None:
        raise ModelError(
            f"{checkpoint} was not trained by nnUNetTrainerALLearningLoss: "
            "start the campaign with -tr nnUNetTrainerALLearningLoss."
        )
    part = content.get("part", "decoder")  # in checkpoints of earlier versions there was no other
    module = LossModule(stage_channels(network, part), part=part)
    copy_loss_module(module, content["module"], checkpoint)
    return module.to(next(network.parameters()).device).eval()


def copy_loss_module(module: LossModule, weights: dict[str, torch.Tensor], checkpoint: Path) -> None:
    """Copy the weights that ``checkpoint`` holds into a loss module.

    Raises ModelError if they belong to features of other number or width.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(
            f"The loss module in {checkpoint} belongs to other features: use a checkpoint trained with these plans "
            "and the same loss_features."
        ) from error


def _save(checkpoint: dict[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch replaces the error of a full disk by a RuntimeError
            raise error.__context__ from None
        raise


def _plain_name(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.removeprefix(_WRAPPERS[0]).removeprefix(_WRAPPERS[1])
    return name


def _shape(tensor: torch.Tensor | None) -> str:
    return "missing" if tensor is None else "x".join(str(size) for size in tensor.shape) or "scalar"
