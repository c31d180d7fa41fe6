"""Weights that a user gives to start from: whether they fit the network, and whether their output heads do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nnunet_al.errors import ModelError
from nnunet_al.nnunet.checkpoints import copy_weights, different_layers, is_head, network_weights, read_checkpoint
from nnunet_al.nnunet.model import Plan, network_of
from nnunet_al.text import first_names
from nnunet_al.user_files import is_pointer

_NAMED = 5


def check_given_weights(plan: Plan, checkpoint: Path, trusted: bool) -> str:
    """Return why the output heads of a checkpoint cannot be kept, as the beginning of a sentence; empty if they can.

    They can if the checkpoint was trained on the same classes. Where it does not say on which, as many as the plan's
    will do.

    Raises ModelError if it cannot be read, any other layer differs from the network of ``plan``, or weights are not
    finite.
    """
    if is_pointer(checkpoint):
        raise ModelError(f"{checkpoint} only names its content: fetch it (git annex get, datalad get, git lfs pull).")
    content = read_checkpoint(checkpoint, trusted)
    weights = network_weights(content, checkpoint)
    network = network_of(plan)
    theirs, ours = _classes(_dataset_json(content)), _classes(plan.dataset_json)
    assert ours is not None
    reason = ""
    if theirs is not None and theirs != ours:
        reason = f"{checkpoint} was trained on other classes ({first_names(list(theirs[0]), _NAMED)})"
    elif any(is_head(name) for name in different_layers(network, weights)):
        reason = f"{checkpoint} was trained on another number of classes"
    copy_weights(network, weights, checkpoint, plan.plans.plans_name, heads=not reason)
    if not all(torch.isfinite(weight).all() for weight in network.state_dict().values()):
        raise ModelError(f"The weights of {checkpoint} are not finite: use a model whose training went well.")
    return reason


def _dataset_json(content: dict[str, Any]) -> dict[str, Any]:
    arguments = content.get("init_args")
    found = arguments.get("dataset_json") if isinstance(arguments, dict) else None
    return found if isinstance(found, dict) else {}


def _classes(dataset_json: dict[str, Any]) -> tuple[dict[str, str | list[str]], str] | None:
    """Return the labels behind the outputs, by name, and the order of regions; None if the file does not say."""
    labels = dataset_json.get("labels")
    if not isinstance(labels, dict):
        return None
    shown = {str(name).casefold(): _value(v) for name, v in labels.items() if name not in ("background", "ignore")}
    has_regions = any(isinstance(value, list) for value in shown.values())
    return shown, str(dataset_json.get("regions_class_order")) if has_regions else ""


def _value(value: Any) -> str | list[str]:
    return sorted(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
