"""The same work in several processes of this machine, one for each GPU, joined as torch's distributed training needs.

The calling process only watches: it passes on that the work shall stop, raises what went wrong in any of the others,
and none of them outlives it.
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
_SECONDS_BETWEEN_LOOKS = 0.5
_LONGEST_REPORT = 20_000  # characters; a pipe that nobody reads yet holds 65 536 bytes


def check_gpus(device: torch.device, gpus: int, batch_size: int | None = None, batch_dice: bool = False) -> None:
    """Check that a training can be distributed over so many GPUs.

    Parameters
    ----------
    device
        what the training runs on.
    gpus
        how many processes, each with a GPU of its own.
    batch_size
        patches a step, which the GPUs share; ``None`` while it is not known.
    batch_dice
        whether the Dice loss is that of a whole batch, as in nnU-Net's 2d plans: then nnU-Net puts the shares together
        patch by patch, and shares of unequal size would be mixed up or waited for without end.

    Raises
    ------
    SetupError
        naming ``-num_gpus``, if there are not so many, or nothing to do for each.
    """
    if gpus < 1:
        raise SetupError(f"-num_gpus {gpus} leaves nothing to train on: choose 1 or more.")
    if gpus == 1:
        return
    if device.type != "cuda":
        raise SetupError(f"-num_gpus {gpus} needs -device cuda, not {device.type}: leave -num_gpus out.")
    visible = torch.cuda.device_count()
    if visible < gpus:
        raise SetupError(f"-num_gpus {gpus} is more than the {visible} that torch sees here: ask for fewer.")
    if batch_size is not None and batch_size < gpus:
        raise SetupError(
            f"-num_gpus {gpus} is more than the batch of {batch_size} can be shared among: ask for fewer GPUs, or for "
            "a larger -batch_size when a campaign starts."
        )
    if batch_size is not None and batch_dice and batch_size % gpus:
        raise SetupError(
            f"-num_gpus {gpus} cannot share the batch of {batch_size} equally, which nnU-Net's Dice loss of whole "
            "batches needs: ask for another number of GPUs, or for another -batch_size when a campaign starts."
        )


def run_distributed(work: Callable[[], object], processes: int, device: torch.device, log: Path | None) -> bool:
    """Do ``work`` in several new processes that torch's distributed training has joined; return at the end of the last.

    Environment variables are those of the moment of the call. The first process prints to the end of ``log``, or where
    this process does; the others print nothing. If any of them fails, the others are ended.

    Parameters
    ----------
    work
        what each process does; it must be possible to pickle it.
    processes
        how many; on a GPU, process i uses GPU i.
    device
        with "cuda" they are joined by NCCL, with "cpu" by gloo.
    log
        file for what the first process prints; ``None``: nothing is redirected.

    Returns
    -------
    bool
        whether all did their work; False if they stopped before its end because this process or one of them was asked
        to (see `nnunet_al.stopping`).

    Raises
    ------
    NnunetALError
        that one of them raised.
    RuntimeError
        with the traceback of another error of one of them, or the signal that ended it.
    KeyboardInterrupt
        if this process or one of the others was interrupted.
    """
    context = multiprocessing.get_context("spawn")
    # a store of our own on a port that the system chooses: trainings that start at one moment cannot meet on a port
    store = dist.TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    reports = [context.Pipe(duplex=False) for _ in range(processes)]
    ranks = [
        context.Process(target=_run_rank, args=(rank, processes, device.type, store.port, work, log, reports[rank][1]))
        for rank in range(processes)
    ]
    try:
        # until a rank heeds it, the signal waits: it would end the rank
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
        _end(ranks)


def _watch(ranks: Sequence[BaseProcess], receivers: Sequence[Any]) -> None:
    """Wait until all ranks have ended, or raise what ended one of them."""
    told = False
    while any(rank.exitcode is None for rank in ranks):
        wait([rank.sentinel for rank in ranks if rank.exitcode is None], timeout=_SECONDS_BETWEEN_LOOKS)
        if is_asked_to_stop() and not told:
            told = True
            for rank in ranks:
                if rank.is_alive() and rank.pid is not None:
                    os.kill(rank.pid, SIGNAL)
        if any(rank.exitcode for rank in ranks):
            raise _why(ranks, receivers)


def _why(ranks: Sequence[BaseProcess], receivers: Sequence[Any]) -> BaseException:
    """Return what was wrong in the first place: when one rank ends, the others fail in its wake."""
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
    # torch aborts a rank that has missed another one for long
    killed = {number: code for number, code in codes.items() if code < 0 and code != -signal.SIGABRT}
    if errors and not killed:
        return errors[0]
    number, code = next(iter((killed or codes).items()))
    if code == -signal.SIGTERM:
        return KeyboardInterrupt()
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return RuntimeError(f"Process {number} of {len(ranks)} of the training was ended {how}.")


def _end(ranks: Sequence[BaseProcess]) -> None:
    """End what still runs, the ranks' own processes included; they hold nothing that is not on disk."""
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
    """Join the others, work, and report whether that was done, or when which error came."""
    os.setpgrp()  # so that the processes that load data can be ended with the rank
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    with ExitStack() as stack:
        stack.enter_context(handling_signals())
        # nothing may wait for a rank that waits for a rank that has ended
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
            done = _done(work)
            dist.destroy_process_group()
            report.send((done, None))
            return
        except NnunetALError as error:
            report.send((time.monotonic(), error))
        except Exception:
            text = traceback.format_exc()[-_LONGEST_REPORT:]
            failure = RuntimeError(f"Process {rank} of {processes} of the training failed:\n{text}")
            report.send((time.monotonic(), failure))
    os._exit(1)  # torch's threads wait for the other ranks, and would end this one by an abort


def _done(work: Callable[[], object]) -> bool:
    try:
        work()
    except KeyboardInterrupt:
        return False
    return True


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a rank is started by run_distributed"
    parent.join()
    os.killpg(0, signal.SIGKILL)
