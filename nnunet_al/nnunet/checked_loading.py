"""Files of weights that a user gives, read without running what they may hold.

A checkpoint is a pickle, which can name any function to be called while it is read. Here only what nnU-Net's own
checkpoints hold is allowed: tensors, plain Python values, and numbers and arrays of numpy.
"""

from __future__ import annotations

import pickle
import re
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_al.errors import ModelError

_NUMBERS = "?bBhHiIlLqQefdgFDUS"
"""Types of numpy's numbers and texts; not that of objects, which can hold anything."""

_NAMED = re.compile(r"GLOBAL ([\w.]+)")
_PICKLE, _ARCHIVE = b"\x80", b"PK"


def load_checked(file: Path) -> Any:
    """Load a file of torch to the CPU; nothing that it names is called, beyond what makes tensors and numbers.

    Raises ModelError if it holds anything else; what torch raises, or UnpicklingError, if it cannot be read.
    """
    try:
        with _allowing_numbers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they are about is said in the error
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with file.open("rb") as opened:
            start = opened.read(2)
        named = _NAMED.search(str(error))
        if named is None and not start.startswith((_PICKLE, _ARCHIVE)):
            raise pickle.UnpicklingError("it is no file of torch") from error
        what = f" ({named[1]})" if named else ""
        raise ModelError(
            f"{file} holds more than nnU-Net's checkpoints do{what}, which could run any "
            "program when it is read: use another file, or add --trust_weights if you trust whoever made it."
        ) from error


def _allowing_numbers() -> AbstractContextManager[Any]:
    make = getattr(torch.serialization, "safe_globals", None)
    if make is None:  # before torch 2.5: tensors and plain values only
        return nullcontext()
    core: Any = getattr(np, "_core", None) or np.core  # numpy 2, else 1
    functions = [core.multiarray.scalar, core.multiarray._reconstruct]
    allowed: list[Any] = [*functions, np.dtype, np.ndarray, *{type(np.dtype(code)) for code in _NUMBERS}]
    if torch.__version__ >= (2, 6):  # a file names the functions as the numpy that wrote it did
        names = ("numpy.core.multiarray", "numpy._core.multiarray")
        allowed += [(function, f"{name}.{function.__name__}") for function in functions for name in names]
    context: AbstractContextManager[Any] = make(allowed)
    return context
