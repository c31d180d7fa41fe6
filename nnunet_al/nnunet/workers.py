"""The same function for many cases, in this process or in several, with progress on a terminal."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunet_al.errors import SetupError
from nnunet_al.nnunet.environment import quiet


def iterate_jobs(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    workers: int = 1,
    description: str = "",
    log: Path | None = None,
) -> Iterator[tuple[int, Any]]:
    """Call ``function(*job)`` for each job and yield (index of the job, result) as they get ready.

    With one worker or one job everything runs here; otherwise in freshly started processes, so ``function`` must be
    importable by name. What is printed goes to ``log``.

    Raises
    ------
    SetupError
        if a process was killed, which nearly always means that memory ran out.
    """
    progress = {"total": len(jobs), "desc": description, "disable": not sys.stderr.isatty() or not jobs}
    if workers <= 1 or len(jobs) <= 1:
        for index, job in enumerate(tqdm(jobs, **progress)):
            with quiet(log):
                result = function(*job)
            yield index, result
        return
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
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def run_jobs(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    workers: int = 1,
    description: str = "",
    log: Path | None = None,
) -> list[Any]:
    """Return the results of ``iterate_jobs`` in the order of ``jobs``."""
    results: list[Any] = [None] * len(jobs)
    for index, result in iterate_jobs(function, jobs, workers, description, log):
        results[index] = result
    return results


def _silence(log: Path | None) -> None:
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)  # a failure here would look like a killed process
    sys.stdout = Path(log or os.devnull).open("a", encoding="utf-8")  # noqa: SIM115 -- open as long as the process
