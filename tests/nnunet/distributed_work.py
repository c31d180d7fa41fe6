"""What processes do in tests of `run_distributed`; a module of its own, so that they start without loading more."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from nnunet_al.errors import SetupError
from nnunet_al.nnunet.distributed import run_distributed
from nnunet_al.stopping import is_asked_to_stop


def add_up() -> None:
    """Each process adds its number, from 1, to the others'."""
    total = torch.tensor([dist.get_rank() + 1])
    dist.all_reduce(total)
    print(f"rank {dist.get_rank()} of {dist.get_world_size()} says {total.item()}")


def refuse_in_the_second() -> None:
    """One process finds something that a user can mend, while the other waits for it."""
    if dist.get_rank() == 1:
        raise SetupError("The second one cannot.")
    dist.barrier()


def break_in_the_second() -> None:
    """One process crashes, while the other waits for it."""
    if dist.get_rank() == 1:
        raise ZeroDivisionError("in the second")
    dist.barrier()


def be_terminated() -> None:
    """Somebody ends one process from outside, while the other waits for it."""
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    dist.barrier()


def wait_to_be_stopped(folder: Path) -> None:
    """Say that the process works, then do so until it is asked to stop."""
    dist.barrier()
    (folder / f"works_{dist.get_rank()}").touch()
    deadline = time.monotonic() + 60
    while not is_asked_to_stop():
        assert time.monotonic() < deadline, "nobody asked"
        time.sleep(0.01)
    raise KeyboardInterrupt


def work_for_ever(folder: Path) -> None:
    """Write down the process's id and that of a process of its own, and never end."""
    child = multiprocessing.get_context("fork").Process(target=_sleep, daemon=True)
    child.start()
    (folder / f".{dist.get_rank()}").write_text(f"{os.getpid()} {child.pid}")
    (folder / f".{dist.get_rank()}").rename(folder / f"pids_{dist.get_rank()}")
    _sleep()


def _sleep() -> None:
    time.sleep(600)


if __name__ == "__main__":
    from functools import partial

    run_distributed(partial(work_for_ever, Path(sys.argv[1])), 2, torch.device("cpu"), None)
