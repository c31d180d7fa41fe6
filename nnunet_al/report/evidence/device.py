"""The device on which the models of a report run."""

from __future__ import annotations

from nnunet_al.campaign.folders import RoundFolder
from nnunet_al.errors import SetupError
from nnunet_al.files import read_json
from nnunet_al.nnunet.devices import torch_device
from nnunet_al.report.reading.rounds import READ_ERRORS

AUTO = "auto"


def device_for(round_: RoundFolder, asked: str) -> str:
    """Return the device on which a round's model runs: the one that was asked for.

    With "auto" that is a GPU where there is one, and else the CPU for a model that was trained on a CPU.

    Raises SetupError if it is not available, or the model was not trained on a CPU, where it may take long.
    """
    if asked != AUTO:
        torch_device(asked)
        return asked
    try:
        torch_device("cuda")
        return "cuda"
    except SetupError:
        if trained_on(round_) == "cpu":
            return "cpu"
    raise SetupError(
        "There is no GPU here, and it was not trained on a CPU: add -device cpu to have it computed there, which may "
        "take long."
    )


def trained_on(round_: RoundFolder) -> str:
    """Return the kind of device that a round's model was trained on, "cuda", "cpu" or "mps"; empty if unknown."""
    try:
        return str(read_json(round_.network)["device"]).partition(" ")[0]
    except READ_ERRORS:
        return ""
