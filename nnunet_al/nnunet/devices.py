"""The device that a call computes on; torch is loaded only where the answer depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnunet_al.errors import SetupError

if TYPE_CHECKING:
    import torch


def torch_device(name: str) -> torch.device:
    """Return the device that ``-device`` names.

    Raises SetupError if torch finds no such device.
    """
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(name, False):
        usable = " or ".join(device for device, there in available.items() if there)
        raise SetupError(f"-device {name} is not available here: use {usable}.")
    return torch.device(name)


def check_devices(name: str, gpus: int) -> None:
    """Check that ``-device`` is there, and that a training can use ``-num_gpus`` of it.

    Raises SetupError naming the option that asks for more than this machine has.
    """
    if name == "cpu" and gpus == 1:  # always there: no need to load torch for that
        return
    from nnunet_al.nnunet.distributed import check_gpus

    check_gpus(torch_device(name), gpus)
