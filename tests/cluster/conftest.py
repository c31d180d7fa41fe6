"""A Slurm for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .slurm import Slurm, running_slurm


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """Two tasks run at a time; what this process starts talks to it."""
    with running_slurm(cpus=2) as here, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", here.environment["SLURM_CONF"])
        yield here
