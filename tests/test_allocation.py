"""Memory that is kept is not cleared by the system again and again."""

import platform
import subprocess
import sys

import pytest

from nnunet_al.allocation import keeping_memory

_FAULTS = """
import resource, sys
import numpy as np
from contextlib import nullcontext
from nnunet_al.allocation import keeping_memory

with keeping_memory() if sys.argv[1] == "kept" else nullcontext():
    for repetition in range(40):
        blocks = [np.ones(4 << 20, np.uint8) for _ in range(8)]
        del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_pages_are_fetched_once():
    fetched = {}
    for how in ("kept", "stock"):
        call = subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True)
        fetched[how] = int(call.stdout)
    assert fetched["kept"] < fetched["stock"] / 2, fetched


def test_the_block_returns_and_errors_pass():
    with keeping_memory():
        value = sum(range(10))
    assert value == 45
    with pytest.raises(ValueError, match="from inside"), keeping_memory():
        raise ValueError("from inside")
