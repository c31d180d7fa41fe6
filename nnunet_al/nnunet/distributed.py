"""Run the same work in several processes of this machine, one per GPU, as torch's distributed training needs it.

The calling process only watches: it forwards a request to stop, raises the error of any process, and all of them end
with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from nnunet_al.errors import NnunetALError, SetupError
from nnunet_al.nnunet.environment import quiet
from nnunet_al.stopping import SIGNAL, handling_signals, is_asked_to_stop

_HOST = "127.0.0.1"
_POLL_SECONDS = 0.5
_MAX_REPORT_CHARACTERS = 20_000  # must fit into an unread pipe, which holds 65 536 bytes


def check_gpus(device: torch.device, gpus: int, batch_size: int | None = None, batch_dice: bool = False) -> None:
    """Check that a training can be distributed over this number of GPUs.

    The GPUs share the ``batch_size`` patches of a step, if that is known yet. With ``batch_dice``, as in nnU-Net's 2d
    plans, the Dice loss is computed over the whole batch: then nnU-Net gathers the shares patch by patch, and shares of
    unequal size would give wrong results or block forever.

    Raises SetupError naming ``-num_gpus``, if fewer GPUs are available, or the batch cannot be shared.
    """
    if gpus < 1:
        raise SetupError(f"-num_gpus {gpus} leaves nothing to train on: choose 1 or more.")
    if gpus == 1:
        return
    if device.type != "cuda":
        raise SetupError(f"-num_gpus {gpus} needs -device cuda, not {device.type}: leave -num_gpus out.")
    visible = torch.cuda.device_count()
    if visible < gpus:
        raise SetupError(f"-num_gpus {gpus} is more than the {visible} that torch finds here: ask for fewer.")
    if batch_size is not None and batch_size < gpus:
        raise SetupError(
            f"-num_gpus {gpus} is more than the {batch_size} patches of a batch: ask for fewer GPUs, or for a larger "
            "-batch_size when a campaign starts."
        )
    if batch_size is not None and batch_dice and batch_size % gpus:
        raise SetupError(
            f"-num_gpus {gpus} cannot share the batch of {batch_size} equally, which nnU-Net's Dice loss over whole "
            "batches needs: ask for another number of GPUs, or for another -batch_size when a campaign starts."
        )


def run_distributed(work: Callable[[], object], processes: int, device: torch.device, log: Path | None) -> bool:
    """Do ``work`` in several new processes of one torch process group, and return when all have ended.

    The processes get the environment variables of the moment of the call; with "cuda", process i uses GPU i. ``work``
    must be picklable. Only the first process prints, to the file ``log`` if it is given. If one fails, the others are
    ended.

    Returns
    -------
    bool
        whether all finished their work; False if they stopped earlier because this process or one of them was asked to
        stop (see `nnunet_al.stopping`).

    Raises NnunetALError the error that one of them raised; RuntimeError with the traceback of another error of one of
    them, or the signal that ended it; KeyboardInterrupt if this process or one of the others was interrupted.
    """
    context = multiprocessing.get_context("spawn")
    # the system chooses a free port, so trainings that start at the same moment cannot get the same one
    store = dist.TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    reports = [context.Pipe(duplex=False) for _ in range(processes)]
    ranks = [
        context.Process(target=_run_rank, args=(rank, processes, device.type, store.port, work, log, reports[rank][1]))
        for rank in range(processes)
    ]
    try:
        # block the signal until the rank handles it, because by default it would end the rank
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {SIGNAL})
        try:
            for rank in ranks:
                rank.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for _, sender in reports:
            sender.close()
        _watch(ranks, [receiver for receiver, _ in reports])
        return all(receiver.recv()[0] for receiver, _ in reports)
    finally:
        _kill_ranks(ranks)


def _watch(ranks: Sequence[BaseProcess], receivers: Sequence[Any]) -> None:
    """Wait until all ranks have ended, or raise the error that ended one of them."""
    forwarded = False
    while any(rank.exitcode is None for rank in ranks):
        wait([rank.sentinel for rank in ranks if rank.exitcode is None], timeout=_POLL_SECONDS)
        if is_asked_to_stop() and not forwarded:
            forwarded = True
            for rank in ranks:
                if rank.is_alive() and rank.pid is not None:
                    os.kill(rank.pid, SIGNAL)
        if any(rank.exitcode for rank in ranks):
            raise _first_failure(ranks, receivers)


def _first_failure(ranks: Sequence[BaseProcess], receivers: Sequence[Any]) -> BaseException:
    """Return the first error: when one rank ends, the others fail as a consequence."""
    reports = []
    for receiver in receivers:
        with suppress(EOFError):
            if receiver.poll():
                reports.append(receiver.recv())
    errors = [error for _, error in sorted((one for one in reports if one[1] is not None), key=lambda one: one[0])]
    for error in errors:
        if isinstance(error, NnunetALError):
            return error
    codes = {number: rank.exitcode for number, rank in enumerate(ranks) if rank.exitcode}
    # torch aborts a rank that has waited too long for another one
    killed = {number: code for number, code in codes.items() if code < 0 and code != -signal.SIGABRT}
    if errors and not killed:
        return errors[0]
    number, code = next(iter((killed or codes).items()))
    if code == -signal.SIGTERM:
        return KeyboardInterrupt()
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return RuntimeError(f"Process {number} of {len(ranks)} of the training was ended {how}.")


def _kill_ranks(ranks: Sequence[BaseProcess]) -> None:
    """Kill the ranks that still run and their child processes; all their results are on disk."""
    for rank in ranks:
        if rank.pid is None:
            continue
        if rank.is_alive():
            rank.kill()
        rank.join()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(rank.pid, signal.SIGKILL)


def _run_rank(
    rank: int, processes: int, device: str, port: int, work: Callable[[], object], log: Path | None, report: Any
) -> None:
    """Join the process group, do the work, and report whether it was finished, or the time and the error."""
    os.setpgrp()  # so that the rank's data loading processes can be killed with it
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    with ExitStack() as stack:
        stack.enter_context(handling_signals())
        # end at once: a rank may be waiting for another one that has already ended
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {SIGNAL})
        if rank > 0 or log is not None:
            stack.enter_context(quiet(None if rank > 0 else log))
        try:
            if device == "cuda":
                torch.cuda.set_device(rank)
            store = dist.TCPStore(_HOST, port, is_master=False)
            backend = "nccl" if device == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=processes)
            done = _ran_to_the_end(work)
            dist.destroy_process_group()
            report.send((done, None))
            return
        except NnunetALError as error:
            report.send((time.monotonic(), error))
        except Exception:
            text = traceback.format_exc()[-_MAX_REPORT_CHARACTERS:]
            failure = RuntimeError(f"Process {rank} of {processes} of the training failed:\n{text}")
            report.send((time.monotonic(), failure))
    os._exit(1)  # a normal exit waits in torch's threads for the other ranks and then aborts


def _ran_to_the_end(work: Callable[[], object]) -> bool:
    try:
        work()
    except KeyboardInterrupt:
        return False
    return True


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a rank is started by run_distributed"
    parent.join()
    os.killpg(0, signal.SIGKILL)
