"""Memory of a round, and how little it grows with the size of a case and the number of regions (Linux).

Anonymous memory is the memory that a process has allocated. Pages of files that are mapped to memory, such as the
embeddings, do not count: the system can free them when needed.

A whole round of USIMF (2d) runs in a separate process, which is measured from outside together with its child
processes. Scoring and embedding are then measured alone, each in a new process, on one synthetic case of growing size
that is cut into patches, with a small network and the measures and passes of USIMF.
"""

from __future__ import annotations

import multiprocessing
import statistics
from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from math import prod
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from measuring import Claim, anonymous_peak, fitted_exponent, make_parser, report

if TYPE_CHECKING:  # this process only measures; the measured code runs, and imports its modules, in other processes
    import torch

    from nnunet_al.nnunet.window_stream import Pool

MB = 1e6
FLOAT = 4  # bytes
MORE_PASSES = 4
PATCH = (64, 64)
TRAINING = {"epochs": 1, "iterations": 2, "optimizer": "adamw"}  # short; in batches of the size that nnU-Net plans
WORKERS = multiprocessing.get_context("forkserver")
WORKERS.set_forkserver_preload(["nnunet_al.rounds.round", "nnunet_al.nnunet.pool_embedding", "nnunet_al.scoring.maps"])


@dataclass
class StageMemory:
    """Bytes of the processes of a round while one of its stages ran.

    Attributes
    ----------
    before : anonymous, when the stage began
    peak : anonymous, at most
    peak_resident : including files mapped to memory; pages shared by two processes count twice
    """

    stage: str
    before: int
    peak: int
    peak_resident: int


def whole_round(told: Connection, arguments: Namespace) -> None:
    """Start a campaign and do its first round with a model; report the name of each stage when it begins."""
    from setting import Setting

    from nnunet_al.nnunet.environment import quiet
    from nnunet_al.rounds.round import do_round
    from nnunet_al.rounds.run_stages import run_stages
    from nnunet_al.rounds.stages.order import MODEL_STAGES, selection_stages

    def announced(stage: Any) -> Any:
        def work(context: Any) -> None:
            told.send(stage.name)
            stage.work(context)

        return replace(stage, work=work)

    setting = Setting.of(arguments)
    if not arguments.quick:
        setting = replace(setting, training=TRAINING)
    with setting.environment(), quiet():
        told.send("start of the campaign, round 0")
        do_round(setting.roots, setting.request("usimf", trainer=None), setting.options, 0)
        context = setting.context(setting.campaign("usimf"), 1)
        stages = [announced(stage) for stage in (*MODEL_STAGES, *selection_stages(context.decided))]
        run_stages(stages, context, context.round.stages)
    batch_size = context.decided.batch_size or context.configuration["batch_size"]
    told.send({"regions": len(context.regions), "batch_size": batch_size})


def watched_round(arguments: Namespace) -> tuple[list[StageMemory], dict[str, int]]:
    """Run a round and measure its memory every 10 ms; return the memory of each stage, and facts about the round."""
    hears, tells = WORKERS.Pipe(duplex=False)
    process = WORKERS.Process(target=whole_round, args=(tells, arguments))
    process.start()
    tells.close()
    found: list[StageMemory] = []
    facts: dict[str, int] = {}
    while process.is_alive():
        anonymous, resident = memory_of_tree(process.pid)
        if found and anonymous:
            now = found[-1]
            now.peak, now.peak_resident = max(now.peak, anonymous), max(now.peak_resident, resident)
        if not hears.poll(0.01):
            continue
        try:
            news = hears.recv()
        except EOFError:
            break
        if isinstance(news, str):
            anonymous, resident = memory_of_tree(process.pid)
            found.append(StageMemory(news, anonymous, anonymous, resident))
        else:
            facts = news
    while hears.poll():
        try:
            news = hears.recv()
        except EOFError:
            break
        facts = facts if isinstance(news, str) else news
    process.join()
    if process.exitcode:
        raise SystemExit("The round failed; see the error above.")
    return found, facts


def memory_of_tree(pid: int | None) -> tuple[int, int]:
    """Return the bytes of anonymous and of all resident memory of a process and its child processes."""
    anonymous = resident = 0
    waiting = [str(pid)]
    while waiting:
        folder = Path("/proc") / waiting.pop()
        try:
            status = dict(line.split(":", 1) for line in (folder / "status").read_text(encoding="utf-8").splitlines())
            for task in (folder / "task").iterdir():
                waiting += (task / "children").read_text(encoding="ascii").split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if "RssAnon" in status:  # not of one that ended and was not waited for
            anonymous += int(status["RssAnon"].split()[0]) * 1024
            resident += int(status["VmRSS"].split()[0]) * 1024
    return anonymous, resident


@dataclass(frozen=True)
class Case:
    """One synthetic case: voxels per axis, classes of the network, and passes."""

    shape: tuple[int, int, int]
    classes: int
    passes: int
    device: str

    @property
    def image_bytes(self) -> int:
        return prod(self.shape) * FLOAT

    @property
    def samples_bytes(self) -> int:
        """Bytes of the probabilities of all passes for the whole case."""
        return self.passes * self.classes * prod(self.shape) * FLOAT

    def times(self, factor: int) -> Case:
        """Return a case with ``factor`` times as many slices."""
        return replace(self, shape=(factor * self.shape[0], *self.shape[1:]))


def peak_of_scoring(case: Case) -> int:
    """Return the peak bytes of scoring all regions of a case, beyond those that the process had before."""
    import numpy as np
    import torch

    from nnunet_al.campaign.decisions import Options
    from nnunet_al.nnunet.pool_scoring import Measure, Scorer
    from nnunet_al.scoring.dropout import insert_dropout
    from nnunet_al.scoring.reductions import make_reduction
    from nnunet_al.scoring.samplers import DropoutSampler
    from nnunet_al.strategies import catalog
    from nnunet_al.strategies.registry import voxel_map

    pool, numbers = synthetic_pool(case)
    network = small_network(case.classes).to(case.device)
    insert_dropout(network)
    recipe, options = catalog.get("usimf"), Options()
    measures = {
        name: Measure(voxel_map(metric), make_reduction(reduction, recipe.parameters, (1.0, 1.0)))
        for name, (metric, reduction) in recipe.measures().items()
    }
    sampler = DropoutSampler(network, True, case.passes, np.random.default_rng(0))
    scorer = Scorer(sampler, True, measures, torch.device(case.device), options.scoring_batch_size, options.workers)
    with anonymous_peak() as memory:
        scorer.run(pool, numbers)
    return memory["peak"] - memory["before"]


def peak_of_embedding(case: Case) -> int:
    """Return the peak bytes of embedding all regions of a case, beyond those that the process had before."""
    import numpy as np
    import torch

    from nnunet_al.campaign.decisions import Options
    from nnunet_al.files import write_mapped_array
    from nnunet_al.nnunet.pool_embedding import Embedder
    from nnunet_al.scoring.fisher import sample_parameters
    from nnunet_al.scoring.gradients import gradient_entries
    from nnunet_al.scoring.layers import convolutions
    from nnunet_al.strategies import catalog

    pool, numbers = synthetic_pool(case)
    network = small_network(case.classes).to(case.device)
    options = Options()
    # the Fisher information of an untrained network is as good as any
    information = {name: torch.ones_like(layer.weight) for name, layer in convolutions(network).items()}
    size = catalog.get("usimf").parameters["embedding_size"]
    entries = sample_parameters(information, size, np.random.default_rng(0))
    embedder = Embedder(network, True, torch.device(case.device), options.scoring_batch_size, options.workers)
    row = {number: number for number in range(len(pool.regions))}

    def vectors(data_B_C_xyz: torch.Tensor, weight_B_xyz: torch.Tensor) -> torch.Tensor:
        return gradient_entries(network, data_B_C_xyz, weight_B_xyz, entries)

    with TemporaryDirectory() as folder, anonymous_peak() as memory:
        write_mapped_array(
            Path(folder) / "embeddings.npy",
            (len(row), embedder.dimensions(vectors, PATCH, 1)),
            lambda out_N_d: embedder.embed(pool, numbers, vectors, 1.0, out_N_d, row),
        )
    return memory["peak"] - memory["before"]


def synthetic_pool(case: Case) -> tuple[Pool, dict[str, list[int]]]:
    """Return a pool of one case of noise, which is drawn when it is read, and its regions: adjacent patches."""
    import numpy as np

    from nnunet_al.nnunet.window_stream import Pool
    from nnunet_al.pool.boxes import whole
    from nnunet_al.pool.geometry import CaseGeometry
    from nnunet_al.pool.tiling import tile_case

    geometry = CaseGeometry("case", case.shape, (1.0, 1.0, 1.0), (0, 1, 2), whole(case.shape), case.shape)
    regions = tile_case(geometry, "patch", PATCH, 0.0)

    def read_image(_: str) -> np.ndarray:
        return np.random.default_rng(0).standard_normal((1, *case.shape), dtype=np.float32)

    return Pool(regions, {"case": geometry}, read_image, PATCH), {"case": list(range(len(regions)))}


def small_network(classes: int) -> torch.nn.Module:
    """Return a small untrained nnU-Net."""
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    torch.manual_seed(0)
    return PlainConvUNet(
        input_channels=1, n_stages=4, features_per_stage=[8, 16, 32, 64], conv_op=torch.nn.Conv2d, kernel_sizes=3,
        strides=[1, 2, 2, 2], n_conv_per_stage=2, num_classes=classes, n_conv_per_stage_decoder=2, conv_bias=True,
        norm_op=torch.nn.InstanceNorm2d, norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    ).eval()  # fmt: skip


def in_fresh_process(function: Callable[[Case], int], case: Case) -> int:
    """Call a function in a new process and return its result."""
    with ProcessPoolExecutor(1, WORKERS) as executor:
        return executor.submit(function, case).result()


@dataclass(frozen=True)
class Peaks:
    """Peak bytes of scoring and embedding beyond their start, in each repetition.

    Attributes
    ----------
    scoring, embedding : by the size of the case, as a multiple of the smallest
    more_passes : scoring the smallest case in `MORE_PASSES` times as many passes
    """

    scoring: list[dict[int, int]]
    embedding: list[dict[int, int]]
    more_passes: list[int]


def peaks_alone(case: Case, sizes: Sequence[int], repetitions: int) -> Peaks:
    """Measure scoring and embedding, each time in a new process."""
    peaks = Peaks([], [], [])
    for _ in range(repetitions):
        peaks.scoring.append({size: in_fresh_process(peak_of_scoring, case.times(size)) for size in sizes})
        peaks.embedding.append({size: in_fresh_process(peak_of_embedding, case.times(size)) for size in sizes})
        many = replace(case, passes=MORE_PASSES * case.passes)
        peaks.more_passes.append(in_fresh_process(peak_of_scoring, many))
    return peaks


def bounded_claims(peaks: Peaks, case: Case) -> list[Claim]:
    """Claim that memory depends on the batch, not on the size of the case or the number of regions."""
    sizes = list(peaks.scoring[0])
    largest = case.times(sizes[-1])
    voxels = " x ".join(map(str, largest.shape))
    of_largest = [one[sizes[-1]] for one in peaks.scoring]
    ratios = [largest.samples_bytes / one for one in of_largest]
    patches = [prod(case.times(size).shape) // prod(PATCH) for size in (sizes[0], sizes[-1])]
    grown = f"{patches[0]} to {patches[1]} regions; 1 is proportional"
    return [
        Claim(
            "memory_scoring_vs_whole_case",
            statistics.median(ratios),
            statistics.median(of_largest) / MB,
            largest.samples_bytes / MB,
            "MB",
            (min(ratios), max(ratios)),
            f"scoring a case of {voxels} voxels, {case.classes} classes, {case.passes} passes, its image included; "
            "other: the probabilities of all passes for the whole case in float32",
        ),
        _exponent_claim("memory_scoring_exponent_in_case", peaks.scoring, case, f"scoring, case of {grown}"),
        _exponent_claim("memory_embedding_exponent", peaks.embedding, case, f"embedding {grown}"),
    ]


def _exponent_claim(name: str, found: list[dict[int, int]], case: Case, note: str) -> Claim:
    each = [
        fitted_exponent(list(peaks), [max(peak - case.times(size).image_bytes, 1) for size, peak in peaks.items()])
        for peaks in found
    ]
    note = f"peak less the image, {note}"
    return Claim(name, None, statistics.median(each), 1.0, "exponent", (min(each), max(each)), note)


def passes_claim(peaks: Peaks, case: Case) -> Claim:
    """Claim the growth of the peak of scoring with the number of passes."""
    few, many = [min(one.items())[1] for one in peaks.scoring], peaks.more_passes
    growth = [b / a for a, b in zip(few, many, strict=True)]
    ratios = [MORE_PASSES / one for one in growth]
    return Claim(
        "memory_scoring_by_passes",
        statistics.median(ratios),
        statistics.median(growth),
        MORE_PASSES,
        "times",
        (min(ratios), max(ratios)),
        f"growth of the peak of scoring from {case.passes} to {MORE_PASSES * case.passes} passes, "
        f"{statistics.median(few) / MB:.0f} to {statistics.median(many) / MB:.0f} MB: a batch holds all its passes; "
        "other: in proportion",
    )


def round_claim(stages: list[StageMemory], facts: dict[str, int]) -> Claim:
    """Claim the peak of the whole round, compared with that of its training."""
    training = next(stage.peak for stage in stages if stage.stage == "train")
    largest = max(stages, key=lambda stage: stage.peak)
    return Claim(
        "memory_round_peak",
        training / largest.peak,
        largest.peak / MB,
        training / MB,
        "MB",
        note=f"a round of USIMF on {facts['regions']} regions, most in its stage `{largest.stage}`; "
        f"other: its training by nnU-Net alone, in batches of {facts['batch_size']}",
    )


def print_stages(stages: list[StageMemory]) -> None:
    """Print the memory of each stage of the round."""
    print("| stage | peak anonymous (MB) | of which beyond its start | peak resident, mapped files included |")
    print("|" + " --- |" * 4)
    for one in stages:
        cells = (one.peak, one.peak - one.before, one.peak_resident)
        print(f"| `{one.stage}` | " + " | ".join(f"{count / MB:.0f}" for count in cells) + " |")
    print()


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("-cases", type=int, default=60, help="number of cases of the round's dataset")
    parser.add_argument("-np", type=int, help="processes for preprocessing in the round (default: 2, with --quick 1)")
    arguments = parser.parse_args()
    arguments.np = arguments.np or (1 if arguments.quick else 2)
    repetitions = arguments.repetitions or (1 if arguments.quick else 2)
    sizes = (1, 2) if arguments.quick else (1, 2, 4, 8)
    case = (
        Case((8, 256, 256), 3, 2, arguments.device)
        if arguments.quick
        else Case((20, 256, 256), 8, 10, arguments.device)
    )
    Path(arguments.o).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=arguments.o) as folder, ThreadPoolExecutor(1) as executor:
        # at the same time as the round, because bytes are measured and not times
        alone = executor.submit(peaks_alone, case, sizes, repetitions)
        asked = Namespace(**{**vars(arguments), "o": folder, "seed": 0, "b": None})
        stages, facts = watched_round(asked)
        peaks = alone.result()
    print_stages(stages)
    claims = [round_claim(stages, facts), passes_claim(peaks, case), *bounded_claims(peaks, case)]
    numbers = {
        "round": {**facts, "stages": [asdict(stage) for stage in stages]},
        "case": asdict(case),
        "bytes": asdict(peaks),
    }
    report(arguments, "memory", claims, **numbers)


if __name__ == "__main__":
    main()
