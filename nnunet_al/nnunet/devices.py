"""The device that a call computes on, and its half precision; torch is loaded only where the answer depends on it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_al.errors import SetupError

if TYPE_CHECKING:
    import torch

_CPU_FACTS = Path("/proc/cpuinfo")
# fastest first; the names are those of Linux: two of x86, one of ARM
_BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")


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


def device_name(name: str, cpu_facts: Path = _CPU_FACTS) -> str:
    """Return the device that ``-device`` names with its model, where the system says it: "cuda (NVIDIA A100)"."""
    model = ""
    if name == "cuda":
        import torch

        model = torch.cuda.get_device_name()
    elif name == "cpu" and cpu_facts.is_file():
        lines = cpu_facts.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name} ({model})" if model else name


def check_devices(name: str, gpus: int) -> None:
    """Check that ``-device`` is there, and that a training can use ``-num_gpus`` of it.

    Raises SetupError naming the option that asks for more than this machine has.
    """
    if name == "cpu" and gpus == 1:  # always there: no need to load torch for that
        return
    from nnunet_al.nnunet.distributed import check_gpus

    check_gpus(torch_device(name), gpus)


def device_defaults(device: str) -> dict[str, Any]:
    """Return the settings of a new campaign that follow from the device that it computes on.

    A training ends by itself on a CPU, where nnU-Net's 1 000 epochs would take days; on a GPU this was not tried yet.
    """
    return {"precision": default_precision(device), "epochs": "auto" if device == "cpu" else 1000}


def default_precision(device: str) -> str:
    """Return the precision that ``-precision auto`` stands for: "half" where this device computes in it, or "float32".

    A GPU does; a CPU if it has instructions for bfloat16 and this build of torch uses them; "mps" does not.
    """
    if device == "cpu":
        return "half" if bfloat16_instructions() is not None and _torch_uses_bfloat16() else "float32"
    return "half" if device == "cuda" else "float32"


def bfloat16_instructions(cpu_facts: Path = _CPU_FACTS) -> str | None:
    """Return the name of the fastest instructions for products of bfloat16 that this CPU lists; None: it has none.

    Only Linux lists them in a file; elsewhere the answer is None, and ``-precision half`` asks for half precision.
    """
    try:
        lines = cpu_facts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return next((name for name in _BFLOAT16_INSTRUCTIONS if name in flags), None)


def arithmetic(device: str) -> str:
    """Name the arithmetic of half precision on a device: results of two devices are the same only if it is.

    "cuda", "mps", or "cpu" with the instructions for bfloat16, such as "cpu amx_bf16".
    """
    return " ".join(filter(None, [device, bfloat16_instructions() if device == "cpu" else None]))


def _torch_uses_bfloat16() -> bool:
    import torch

    if not torch.backends.mkldnn.is_available():
        return False
    if platform.machine().lower() in {"aarch64", "arm64"}:  # torch's query for ARM: built with its library of kernels
        return bool(getattr(torch.ops.mkldnn, "_is_mkldnn_acl_supported", lambda: False)())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
