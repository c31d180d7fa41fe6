"""FLQMI on pools as large as the paper's (Föllmer et al. 2024): time and memory, also of submodlib and matrix products.

Embeddings are synthetic: clusters of cases and tissue types, norms with heavy tails. As in a round, they are in a file
in the output folder, which is removed at the end.
"""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Claim, Timing, alternate, anonymous_peak, fitted_exponent, make_parser, report

from nnunet_al.memory import available_bytes
from nnunet_al.seeding import generator
from nnunet_al.selection.flqmi import flqmi_gain_order
from nnunet_al.selection.flqmi_submodlib import submodlib_available
from nnunet_al.selection.query import QuerySet
from nnunet_al.selection.resources import Resources
from nnunet_al.strategies.candidates import FIRST_ROUND, Candidates
from nnunet_al.strategies.catalog import get
from nnunet_al.strategies.select import select_batch

_KINDS = 12
_WRITTEN_ROWS = 1000


@dataclass(frozen=True)
class Size:
    """Regions, size of the query set, length of an embedding, budget, cases."""

    pool: int
    queries: int
    dimensions: int
    budget: int
    cases: int


SIZES = {
    "small": Size(7_662, 942, 10_000, 100, 260),
    "middle": Size(20_000, 2_000, 10_000, 100, 100),
    "liver": Size(104_133, 6_606, 10_000, 100, 105),
}
QUICK = {
    "small": Size(700, 90, 300, 20, 10),
    "middle": Size(2_000, 200, 400, 20, 10),
    "liver": Size(5_000, 300, 400, 20, 10),
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("-scale", default="all", choices=[*SIZES, "all"])
    parser.add_argument("-seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="do not remove the embeddings")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else SIZES
    scales = list(sizes) if arguments.scale == "all" else [arguments.scale]
    claims: list[Claim] = []
    numbers: dict[str, Any] = {}
    if "small" in scales:
        claims += against_submodlib("flqmi_small", sizes["small"], arguments, numbers, memory=False)
    if "middle" in scales:
        claims += against_submodlib("flqmi", sizes["middle"], arguments, numbers, memory=True)
        claims += against_one_product(sizes["middle"], arguments, numbers)
        claims += growth(sizes["middle"], arguments, numbers)
    if "liver" in scales:
        claims += at_liver_scale(sizes["liver"], arguments, numbers)
    report(arguments, "flqmi", claims, **numbers)


def against_submodlib(
    name: str, size: Size, arguments: Namespace, numbers: dict[str, Any], memory: bool
) -> Iterator[Claim]:
    """Compare selections from a given kernel; submodlib's time includes taking over the kernel."""
    kernel_N_Q = make_kernel(size, arguments.seed)
    shape = f"{size.pool} x {size.queries}, {size.budget} regions, kernel given"
    times = alternate(
        {way: partial(WAYS[way], kernel_N_Q, size.budget) for way in ways()},
        arguments.repetitions or (2 if arguments.quick else 5),
    )
    numbers[f"{name}_time"] = {way: timing.seconds for way, timing in times.items()}
    yield compared(f"{name}_time_vs_submodlib", times["ours"], times.get("submodlib"), f"{shape}; other: submodlib")
    if not memory:
        return
    peaks = {way: in_a_process(peak_of_way, way, size, arguments.seed) / 1e6 for way in ways()}
    numbers[f"{name}_memory_MB"] = peaks
    numbers["submodlib_bytes_per_element"] = peaks.get("submodlib", 0) * 1e6 / (size.pool * size.queries)
    other = peaks.get("submodlib")
    ratio = None if other is None else other / peaks["ours"]
    note = f"{shape}; peak beyond the kernel; other: submodlib"
    yield Claim(f"{name}_memory_vs_submodlib", ratio, peaks["ours"], other, "MB", note=note)


def against_one_product(size: Size, arguments: Namespace, numbers: dict[str, Any]) -> Iterator[Claim]:
    """Compare a selection from embeddings with the matrix product that any selection by similarity needs."""
    with embeddings_file(size, arguments) as path:
        candidates = make_candidates(path, size, arguments.seed)
        assert candidates.query is not None
        whole_N_d = np.load(path)
        query_Q_d = whole_N_d[candidates.query.indices_Q]

        def by_torch() -> torch.Tensor:
            rows, columns = (torch.from_numpy(array).to(arguments.device) for array in (whole_N_d, query_Q_d))
            return (rows @ columns.T).cpu()

        times = alternate(
            {
                "ours": partial(from_embeddings, candidates, size.budget, arguments.device, arguments.seed),
                "torch": by_torch,
                "numpy": lambda: whole_N_d @ query_Q_d.T,
            },
            arguments.repetitions or (2 if arguments.quick else 5),
            device=arguments.device,
        )
    numbers["flqmi_vs_one_product"] = {way: timing.seconds for way, timing in times.items()}
    faster = min(("torch", "numpy"), key=lambda way: times[way].median)
    note = (
        f"{size.pool} x {size.queries}, {size.budget} regions from embeddings of {size.dimensions} (usimc, from disk); "
        f"other: the product alone, by {faster} in memory"
    )
    yield Claim.of_times("flqmi_vs_one_product", times["ours"], times[faster], note=note)


def growth(size: Size, arguments: Namespace, numbers: dict[str, Any]) -> Iterator[Claim]:
    """Select from pools of 1, 2, 4 and 8 times as many regions with the same number of queries."""
    pools = [
        replace(size, pool=size.pool * factor // 2, queries=size.queries // 4, dimensions=size.dimensions // 10)
        for factor in (1, 2, 4, 8)
    ]
    with ExitStack() as files:
        candidates = {
            one.pool: make_candidates(files.enter_context(embeddings_file(one, arguments)), one, arguments.seed)
            for one in pools
        }
        times = alternate(
            {
                str(pool): partial(from_embeddings, some, size.budget, arguments.device, arguments.seed)
                for pool, some in candidates.items()
            },
            3,
            device=arguments.device,
        )
    numbers["flqmi_growth"] = {pool: timing.seconds for pool, timing in times.items()}
    medians = [times[str(one.pool)].median for one in pools]
    exponent = fitted_exponent([one.pool for one in pools], medians)
    note = (
        f"{pools[0].pool} to {pools[-1].pool} regions, {pools[0].queries} queries, embeddings of "
        f"{pools[0].dimensions} (usimc), {medians[0]:.2g} to {medians[-1]:.2g} s; 1 is proportional"
    )
    yield Claim("growth_selection_exponent_flqmi", None, exponent, 1.0, "exponent", note=note)


def at_liver_scale(size: Size, arguments: Namespace, numbers: dict[str, Any]) -> Iterator[Claim]:
    """Select from embeddings that are not in the system's cache."""
    with embeddings_file(size, arguments) as path:
        runs = []
        for _ in range(arguments.repetitions or 1):
            out_of_cache(path)
            runs.append(in_a_process(run_from_embeddings, path, size, arguments.device, arguments.seed))
    numbers["flqmi_liver_scale"] = runs
    shape = f"{size.pool} x {size.queries}, {size.budget} regions from embeddings of {size.dimensions} on disk (usimc)"
    timing = Timing(tuple(run["seconds"] for run in runs))
    yield Claim("flqmi_liver_scale_seconds", None, timing.median, None, "s", note=shape)
    element = numbers.get("submodlib_bytes_per_element")
    unable = ""
    if element:
        needed, free = element * size.pool * size.queries, available_bytes()
        able = "would be able" if free is None or needed < free else "is not able"
        unable = f"; submodlib {able}: it would need {needed / 1e9:.3g} GB besides the kernel"
    peak = max(run["peak"] for run in runs) / 1e9
    yield Claim("flqmi_liver_scale_memory", None, peak, None, "GB", note=f"{shape}; peak of the process{unable}")


def compared(name: str, ours: Timing, other: Timing | None, note: str) -> Claim:
    if other is None:
        return Claim(name, None, ours.median, None, "s", note=f"{note} has no wheel here")
    return Claim.of_times(name, ours, other, note=note)


def ways() -> list[str]:
    return ["ours", "submodlib"] if submodlib_available() else ["ours"]


def by_streaming(kernel_N_Q: np.ndarray, budget: int) -> Sequence[int]:
    draws = np.ones(kernel_N_Q.shape[1], dtype=np.int64)
    return flqmi_gain_order(kernel_N_Q, draws, budget, np.random.default_rng(0)).indices_B.tolist()


def by_submodlib(kernel_N_Q: np.ndarray, budget: int) -> Sequence[int]:
    from submodlib import FacilityLocationVariantMutualInformationFunction

    function = FacilityLocationVariantMutualInformationFunction(
        n=kernel_N_Q.shape[0], num_queries=kernel_N_Q.shape[1], query_sijs=kernel_N_Q, queryDiversityEta=1.0
    )
    return [
        index
        for index, _ in function.maximize(
            budget,
            optimizer="StochasticGreedy",
            stopIfZeroGain=False,
            stopIfNegativeGain=False,
            epsilon=0.01,
            show_progress=False,
        )
    ]


WAYS: dict[str, Callable[[np.ndarray, int], Sequence[int]]] = {"ours": by_streaming, "submodlib": by_submodlib}


def from_embeddings(candidates: Candidates, budget: int, device: str, seed: int) -> np.ndarray:
    """Select as in a round."""
    resources = Resources(device, available_bytes())
    rngs = partial(generator, seed, 1)
    return select_batch(get("usimc"), candidates, budget, rngs, "streaming", FIRST_ROUND, resources).indices_B


def run_from_embeddings(path: Path, size: Size, device: str, seed: int) -> dict[str, float]:
    candidates = make_candidates(path, size, seed)
    with anonymous_peak() as memory:
        started = time.perf_counter()
        batch = from_embeddings(candidates, size.budget, device, seed)
        seconds = time.perf_counter() - started
    assert len(batch) == size.budget
    return {"seconds": seconds, "peak": memory["peak"], "before": memory["before"]}


def peak_of_way(way: str, size: Size, seed: int) -> float:
    """Return the peak bytes of an implementation besides the kernel."""
    kernel_N_Q = make_kernel(size, seed)
    WAYS[way](np.ascontiguousarray(kernel_N_Q[:50, :20]), 5)  # so that its modules are imported
    with anonymous_peak() as memory:
        WAYS[way](kernel_N_Q, size.budget)
    return max(memory["peak"] - memory["before"], 1)


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process, so that memory of earlier calls does not count."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def make_kernel(size: Size, seed: int) -> np.ndarray:
    """Return cosines (pool, queries) of short synthetic embeddings."""
    rng = np.random.default_rng([seed, 1])
    few = Size(size.pool, size.queries, 64, size.budget, size.cases)
    rows_N_d = np.concatenate(list(embedding_rows(few, rng)))
    rows_N_d /= np.linalg.norm(rows_N_d, axis=1, keepdims=True)
    drawn = np.sort(rng.choice(size.pool, size.queries, replace=False))
    kernel_N_Q: np.ndarray = rows_N_d @ rows_N_d[drawn].T
    return kernel_N_Q


def embedding_rows(size: Size, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield blocks of embeddings: the sum of a case's, a tissue type's and a region's vector, times a norm."""
    cases_C_d = rng.standard_normal((size.cases, size.dimensions), dtype=np.float32)
    kinds_K_d = rng.standard_normal((_KINDS, size.dimensions), dtype=np.float32)
    for start in range(0, size.pool, _WRITTEN_ROWS):
        rows = np.arange(start, min(start + _WRITTEN_ROWS, size.pool))
        part = rng.standard_normal((len(rows), size.dimensions), dtype=np.float32)
        part += 0.7 * cases_C_d[rows * size.cases // size.pool]
        part += kinds_K_d[rng.integers(_KINDS, size=len(rows))]
        part *= np.exp(1.5 * rng.standard_normal((len(rows), 1))).astype(np.float32)
        yield part


def make_candidates(path: Path, size: Size, seed: int) -> Candidates:
    """Return the regions of cases in pool order, which differs from the order of names, with embeddings on disk."""
    rows = np.arange(size.pool)
    cases = rows * size.cases // size.pool
    places = rows - np.searchsorted(cases, cases)
    drawn = generator(seed, 1, "query").choice(size.pool, size.queries, replace=False)
    return Candidates(
        [f"case_{case:03d}[{8 * place}:{8 * place + 16}]" for case, place in zip(cases, places, strict=True)],
        embeddings_N_d=np.load(path, mmap_mode="r"),
        query=QuerySet(drawn, np.ones(size.queries)),
    )


@contextmanager
def embeddings_file(size: Size, arguments: Namespace) -> Iterator[Path]:
    """Write embeddings block by block; remove the file at the end."""
    path = Path(arguments.o) / f"embeddings_{size.pool}_{size.dimensions}_{arguments.seed}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    try:
        if not path.is_file():
            out_N_d = np.lib.format.open_memmap(unfinished, "w+", np.float32, (size.pool, size.dimensions))
            start = 0
            for rows in embedding_rows(size, np.random.default_rng([arguments.seed, 2])):
                out_N_d[start : start + len(rows)] = rows
                start += len(rows)
            out_N_d.flush()
            unfinished.rename(path)
        yield path
    finally:
        unfinished.unlink(missing_ok=True)
        if not arguments.keep:
            path.unlink(missing_ok=True)


def out_of_cache(path: Path) -> None:
    """Drop the file from the system's cache, if the system allows it, so that it is read from disk."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
