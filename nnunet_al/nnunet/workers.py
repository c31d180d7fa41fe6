"""The same function for many cases, in this process or in several, with progress on a terminal."""

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

MAX_VOXELS_HERE = 1 << 24
"""Jobs that go through fewer voxels together run in this process: starting others costs seconds of imports."""

_LEAST_VOXELS = 1 << 17  # what opening and writing the files of a tiny case costs


def iterate_jobs(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    workers: int = 1,
    description: str = "",
    log: Path | None = None,
    voxels: Sequence[int] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Call ``function(*job)`` for each job and yield (index of the job, result) as they get ready.

    With one worker, one job or little work everything runs here; otherwise in freshly started processes, so
    ``function`` must be importable by name. Where it runs changes no result. What is printed goes to ``log``.

    Parameters
    ----------
    function
        to be called
    jobs
        its arguments
    workers
        number of processes
    description
        of the work, for the progress bar and for sentences
    log
        file that gets what is printed
    voxels
        how many voxels each job goes through, roughly; without them the work is taken for much

    Raises
    ------
    SetupError
        if a process was killed, which nearly always means that memory ran out.
    KeyboardInterrupt
        at an interruption; the processes, which do not heed it, are ended first.
    """
    progress = {"total": len(jobs), "desc": description, "disable": not sys.stderr.isatty() or not jobs}
    little = voxels is not None and sum(max(some, _LEAST_VOXELS) for some in voxels) < MAX_VOXELS_HERE
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
    except (KeyboardInterrupt, GeneratorExit):  # nobody waits for what is still being done
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
    results: list[Any] = [None] * len(jobs)
    for index, result in iterate_jobs(function, jobs, workers, description, log, voxels):
        results[index] = result
    return results


def _silence(log: Path | None) -> None:
    for number in (signal.SIGINT, SIGNAL):  # a terminal, and some schedulers, mean everybody; the parent ends us
        signal.signal(number, signal.SIG_IGN)
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)  # a failure here would look like a killed process
    sys.stdout = Path(log or os.devnull).open("a", encoding="utf-8")  # noqa: SIM115 -- open as long as the process
