"""Run one function for many cases, in this process or in several, with a progress bar on a terminal."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunet_al.errors import SetupError
from nnunet_al.nnunet.environment import quiet
from nnunet_al.stopping import SIGNAL

MAX_VOXELS_IN_PROCESS = 1 << 24
"""Jobs with fewer voxels in total run in this process, because starting others costs seconds of imports."""

_MIN_VOXELS_PER_JOB = 1 << 17  # the cost of opening and writing the files of a tiny case


def iterate_jobs(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    workers: int = 1,
    description: str = "",
    log: Path | None = None,
    voxels: Sequence[int] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Call ``function(*job)`` for each job and yield (index of the job, result) in order of completion.

    With one worker, one job or little work everything runs in this process; otherwise in newly started processes, so
    ``function`` must be importable by name. The results are the same in both cases.

    ``description`` names the work in the progress bar and in messages, ``log`` is a file for printed output, and
    ``voxels`` the approximate number of voxels per job; without it the work is assumed to be large.

    Raises SetupError if a process was killed, which nearly always means that memory ran out; KeyboardInterrupt at an
    interruption; the processes, which ignore it, are ended first.
    """
    progress = {"total": len(jobs), "desc": description, "disable": not sys.stderr.isatty() or not jobs}
    little = voxels is not None and sum(max(some, _MIN_VOXELS_PER_JOB) for some in voxels) < MAX_VOXELS_IN_PROCESS
    if workers <= 1 or len(jobs) <= 1 or little:
        for index, job in enumerate(tqdm(jobs, **progress)):
            with quiet(log):
                result = function(*job)
            yield index, result
        return
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        min(workers, len(jobs)), multiprocessing.get_context("spawn"), initializer=_silence, initargs=(log,)
    )
    try:
        indices = {executor.submit(function, *job): index for index, job in enumerate(jobs)}
        for future in tqdm(as_completed(indices), **progress):
            yield indices[future], future.result()
    except BrokenProcessPool as error:
        raise SetupError(
            f"A worker process was killed while {description or 'working'}, most likely because memory ran out: "
            f"run the same command again with fewer processes than {workers} (-np)."
        ) from error
    except (KeyboardInterrupt, GeneratorExit):  # the remaining results are not needed
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def run_jobs(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    workers: int = 1,
    description: str = "",
    log: Path | None = None,
    voxels: Sequence[int] | None = None,
) -> list[Any]:
    """Return the results of ``iterate_jobs`` in the order of ``jobs``."""
    results = dict(iterate_jobs(function, jobs, workers, description, log, voxels))
    return [results[index] for index in range(len(jobs))]


def _silence(log: Path | None) -> None:
    for number in (signal.SIGINT, SIGNAL):  # terminals and schedulers signal all processes; the parent ends this one
        signal.signal(number, signal.SIG_IGN)
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)  # a failure here would look like a killed process
    sys.stdout = Path(log or os.devnull).open("a", encoding="utf-8")  # noqa: SIM115 -- open as long as the process
