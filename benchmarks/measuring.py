"""Shared code of the benchmarks of speed and memory: compare two implementations in one process."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_al import __version__
from nnunet_al.files import write_json, write_text


def make_parser(description: str | None) -> ArgumentParser:
    """Return a parser with the options of all benchmarks of speed and memory."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("-data", metavar="FOLDER", help="raw dataset (default: the Hippocampus of NNUNET_AL_TEST_DATA)")
    parser.add_argument("-o", default="benchmark_results", metavar="FOLDER", help="folder for data, models and tables")
    parser.add_argument("-device", default="cpu", choices=["cpu", "cuda", "mps"])
    parser.add_argument("-repetitions", type=int, help="repetitions of each compared implementation")
    parser.add_argument("--quick", action="store_true", help="small data, few repetitions: under a minute")
    parser.add_argument("--json", metavar="FILE", help="file for all numbers")
    return parser


@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """The fastest and the slowest repetition."""
        return min(self.seconds), max(self.seconds)


def alternate(
    ways: Mapping[str, Callable[[], Any]], repetitions: int, warm_ups: int = 1, device: str = "cpu"
) -> dict[str, Timing]:
    """Time the implementations in turn, A B A B ..., so that a change in the machine's speed affects all of them."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(-warm_ups, repetitions):
        for name, way in ways.items():
            gc.collect()
            _finish(device)
            started = time.perf_counter()
            way()
            _finish(device)
            if repetition >= 0:
                found[name].append(time.perf_counter() - started)
    return {name: Timing(tuple(seconds)) for name, seconds in found.items()}


_WATCH = """
import select, sys

def anonymous():
    with open(f"/proc/{sys.argv[1]}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:")) * 1024

peak = before = anonymous()
print(before, flush=True)
while not select.select([sys.stdin], [], [], 0.005)[0]:
    peak = max(peak, anonymous())
print(max(peak, anonymous()), flush=True)
"""


@contextmanager
def anonymous_peak() -> Iterator[dict[str, int]]:
    """Measure ``before`` and ``peak`` of the block: bytes of anonymous memory of this process (Linux).

    Pages of files that are mapped to memory are not anonymous: the system can free them when needed. Another process
    measures, because a thread of this one cannot run while a library holds the interpreter lock.
    """
    if not Path("/proc/self/status").is_file():
        raise SystemExit("This system does not report the anonymous memory of a process: measure memory on Linux.")
    command = [sys.executable, "-S", "-c", _WATCH, str(os.getpid())]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert watcher.stdin is not None
    assert watcher.stdout is not None
    found = {"before": int(watcher.stdout.readline())}
    try:
        yield found
    finally:
        watcher.stdin.close()
        found["peak"] = int(watcher.stdout.readline())
        watcher.wait()


@dataclass(frozen=True)
class Claim:
    """One claimed number: the ratio of another implementation to ours, or a value of ours alone.

    Attributes
    ----------
    name : fixed, for programs
    ratio : other / ours (time or memory); None without a comparison
    ours, other : medians in ``unit``; ``other`` may be None
    unit : of both
    spread : smallest and largest ratio of the repetitions, if there are several
    note : description of the comparison
    """

    name: str
    ratio: float | None
    ours: float
    other: float | None
    unit: str
    spread: tuple[float, float] | None = None
    note: str = ""

    @classmethod
    def of_times(cls, name: str, ours: Timing, other: Timing, per: float = 1, unit: str = "s", note: str = "") -> Claim:
        """Compare two implementations timed by `alternate`, pair by pair; ``per`` converts seconds to the unit."""
        ratios = [b / a for a, b in zip(ours.seconds, other.seconds, strict=True)]
        spread = (min(ratios), max(ratios))
        return cls(name, statistics.median(ratios), ours.median / per, other.median / per, unit, spread, note)


def fitted_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of ln value over ln size by least squares: 1 if the cost is proportional to the size."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def report(arguments: Namespace, name: str, claims: Sequence[Claim], **numbers: Any) -> None:
    """Print the claims as a Markdown table, and write the table and all numbers."""
    head = ("claim", "note", "ours", "other", "unit", "ratio (smallest to largest)")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for claim in claims:
        ratio = "" if claim.ratio is None else f"{claim.ratio:.3g}"
        if claim.spread is not None:
            ratio += f" ({claim.spread[0]:.3g} to {claim.spread[1]:.3g})"
        other = "" if claim.other is None else f"{claim.other:.4g}"
        lines.append(f"| `{claim.name}` | {claim.note} | {claim.ours:.4g} | {other} | {claim.unit} | {ratio} |")
    print("\n".join(lines))
    write_text(Path(arguments.o) / f"{name}{'_quick' if arguments.quick else ''}.md", "\n".join(lines) + "\n")
    if arguments.json:
        content = {"machine": machine(), "claims": [asdict(claim) for claim in claims], **numbers}
        write_json(Path(arguments.json), content)


def machine() -> dict[str, Any]:
    """Return a description of the machine."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "nnunet_al": __version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()
