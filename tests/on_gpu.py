"""Checks on a GPU, or with ``-device cpu`` of themselves; `on_gpu.sh` calls them. They need neither pytest nor data.

One line per check: ok, FAILED or skipped, its seconds, and its measurements or the reason. Exit status 1 if any failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch

DATASET = "Dataset501_Phantom"
MINUTES = 8.0
TRAINING = {"epochs": 2, "iterations": 15, "batch_size": 8, "optimizer": "adamw"}
PARAMETERS = {"passes": 4, "query_size": 30, "fisher_samples": 8, "embedding_size": 500}


class SkippedError(Exception):
    """A check that cannot be done here, with the reason."""


class FailedError(Exception):
    """A check that found something wrong."""


@dataclass(frozen=True)
class Bench:
    """What the checks share: the device, a folder, and a campaign whose first model is trained.

    Attributes
    ----------
    device : "cuda" or "cpu"
    folder : for all files
    """

    device: str
    folder: Path

    @cached_property
    def roots(self) -> Any:
        """nnU-Net's folders with a dataset of phantoms."""
        from nnunet_al.nnunet import fingerprint
        from nnunet_al.nnunet.environment import Roots
        from nnunet_al.synthetic.phantom import make_phantom_dataset

        function = fingerprint.extract_fingerprint  # 10^8 sampled voxels take longer than all else
        fewer = tuple(1e5 if value == fingerprint.MAX_VOXELS else value for value in function.__defaults__ or ())
        function.__defaults__ = fewer
        roots = Roots.below(self.folder / "roots").create()
        make_phantom_dataset(roots.raw / DATASET, cases=8, shape=(28, 24, 12))
        return roots

    def request(self, tag: str | None = None, **others: Any) -> Any:
        """Return the request of a campaign."""
        from nnunet_al.campaign.request import Request

        asked = {"budget": 8, "initial": 12, "parameters": PARAMETERS, **TRAINING, **others}
        return Request(DATASET, "2d", 0, 0, tag, "usimf", **asked)

    def do_round(self, request: Any, number: int, **options: Any) -> None:
        """Do a round, or a share of it."""
        from nnunet_al.campaign.decisions import Options
        from nnunet_al.nnunet.environment import nnunet_folders
        from nnunet_al.rounds.round import do_round

        with nnunet_folders(self.roots):
            do_round(self.roots, request, Options(device=self.device, workers=1, **options), number)

    def context(self, folder: Any, device: str, precision: str | None = None) -> Any:
        """Return round 1 of a campaign, to be computed on a device."""
        from nnunet_al.campaign.data import read_data
        from nnunet_al.campaign.decisions import Decisions, Options
        from nnunet_al.rounds.context import RoundContext

        decided = Decisions.load(folder.decisions)
        data = read_data(self.roots, DATASET, decided.test, 1)
        if precision is not None:
            decided = replace(decided, precision=precision)
        return RoundContext(folder, 1, decided, self.roots, data, Options(device=device, workers=1))

    def campaign(self, tag: str | None = None) -> Any:
        """Return the folder of a campaign."""
        from nnunet_al.campaign.folders import CampaignFolder

        return CampaignFolder.of(self.roots, DATASET, "2d", "usimf", 0, tag, 0)

    @cached_property
    def trained(self) -> Any:
        """The folder of a campaign whose first model is trained on the device and evaluated."""
        from nnunet_al.nnunet.environment import nnunet_folders
        from nnunet_al.rounds.run_stages import run_stages
        from nnunet_al.rounds.stages.order import MODEL_STAGES

        self.do_round(self.request(), 0)
        context = self.context(self.campaign(), self.device)
        with nnunet_folders(self.roots):
            run_stages(MODEL_STAGES, context, context.round.stages)
        return self.campaign()

    def windows(self) -> tuple[Any, dict[str, list[int]]]:
        """Return the pool of windows and the candidates of each case."""
        from nnunet_al.pool.table import by_case
        from nnunet_al.rounds.candidates import candidate_numbers
        from nnunet_al.rounds.round_model import window_pool

        context = self.context(self.trained, self.device)
        return window_pool(context), by_case(context.regions, candidate_numbers(context))

    def scores(self, device: str, precision: str, backwards: bool = False, chunk: int = 64) -> dict[str, np.ndarray]:
        """Score all candidates with the same sub-networks; ``backwards``: the cases in the opposite order."""
        from nnunet_al.nnunet.pool_scoring import Measure, Scorer
        from nnunet_al.rounds.posterior import make_sampler
        from nnunet_al.rounds.round_model import load_round_model
        from nnunet_al.scoring.reductions import make_reduction
        from nnunet_al.strategies.registry import voxel_map

        context = self.context(self.trained, device, precision)
        plan, network, on = load_round_model(context, context.checkpoint(context.round))
        sampler = make_sampler(context, plan, network, on)
        reduction = make_reduction("mean", {}, context.configuration["spacing"])
        measures = {name: Measure(voxel_map(name), reduction, name) for name in ("bald", "entropy", "mean_std")}
        pool, numbers_of_case = self.windows()
        if backwards:
            numbers_of_case = {case: numbers_of_case[case] for case in reversed(list(numbers_of_case))}
        found = Scorer(sampler, plan.exclusive, measures, on, chunk, 1).run(pool, numbers_of_case)
        return {name: reduction.finish(found.stats[name]) for name in measures}

    def network(self, device: str) -> Any:
        """Return the trained network in float64, whose rounding hides nothing."""
        from nnunet_al.rounds.round_model import load_round_model

        context = self.context(self.trained, device)
        return load_round_model(context, context.checkpoint(context.round))[1].double()

    def batch(self, device: str, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
        """Return some windows of the pool and the weights of their voxels, float64."""
        pool, numbers_of_case = self.windows()
        chunk = next(pool.chunks(numbers_of_case, size, 1))
        weight_B_xyz = chunk.mask_B_xyz.double() / chunk.voxels_B.view(-1, *[1] * (chunk.mask_B_xyz.ndim - 1))
        return chunk.data_B_C_xyz.double().to(device), weight_B_xyz.to(device)


def demo(bench: Bench) -> str:
    """The demo ends with its pictures and its report."""
    from nnunet_al.cli import demo as command

    note = ""
    if importlib.util.find_spec("kneed") is None:
        command.STRATEGIES = ("random", "entropy")  # type: ignore[assignment]
        note = "with entropy instead of usimf, because kneed is missing"
    _expect(command.main(["-o", str(bench.folder / "demo"), "-device", bench.device]) == 0, "it did not end with 0")
    for name in ("learning_curves.png", "selection.png", "report/report.html"):
        _expect((bench.folder / "demo" / name).is_file(), f"{name} is missing")
    return note


def scoring_float32(bench: Bench) -> str:
    """Dropout scores in float32 are those of the CPU, but for rounding."""
    here, there = (bench.scores(device, "float32") for device in (bench.device, "cpu"))
    return _close({name: _difference(here[name], there[name]) for name in here}, 1e-3)


def scoring_half(bench: Bench) -> str:
    """Dropout scores in half precision rank the regions like float32 on the CPU."""
    from scipy.stats import spearmanr

    half, full = bench.scores(bench.device, "half"), bench.scores("cpu", "float32")
    ranks = {name: float(spearmanr(half[name], full[name]).statistic) for name in half}
    _expect(min(ranks.values()) > 0.98, f"rank correlations {_shown(ranks)}")
    return f"rank correlations {_shown(ranks)}"


def place_in_batch(bench: Bench) -> str:
    """A region's score is the same to the bit at another place of another batch."""
    for precision in ("float32", "half"):
        one = bench.scores(bench.device, precision)
        other = bench.scores(bench.device, precision, backwards=True, chunk=32)
        for name in one:
            worst = _difference(one[name], other[name])
            _expect(bool(np.array_equal(one[name], other[name])), f"{name} in {precision} differs by {worst:.2g}")
    return "float32 and half"


def gradients(bench: Bench) -> str:
    """Gradients of regions are those of the CPU in float64, whole and as embeddings."""
    from nnunet_al.scoring.gradients import gradient_entries, weight_gradients
    from nnunet_al.scoring.layers import convolutions

    found = []
    for device in (bench.device, "cpu"):
        network, (data_B_C_xyz, weight_B_xyz) = bench.network(device), bench.batch(device)
        layers = convolutions(network)
        entries = {name: np.arange(0, layer.weight.numel(), 7) for name, layer in layers.items()}
        vectors_B_d = gradient_entries(network, data_B_C_xyz, weight_B_xyz, entries)
        whole = weight_gradients(network, data_B_C_xyz, weight_B_xyz, layers)
        found.append((vectors_B_d.cpu().numpy(), np.concatenate([g.cpu().numpy().ravel() for g in whole.values()])))
    (vectors, whole_here), (vectors_cpu, whole_cpu) = found
    differences = {"entries": _difference(vectors, vectors_cpu), "whole": _difference(whole_here, whole_cpu)}
    return _close(differences, 1e-8)


def embedding_float32(bench: Bench) -> str:
    """Gradient embeddings and the Fisher information of a round, in float32, are those of the CPU."""
    from nnunet_al.rounds.round_model import make_embedder
    from nnunet_al.scoring.gradients import gradient_entries
    from nnunet_al.scoring.layers import convolutions

    found = []
    pool, numbers_of_case = bench.windows()
    some = {case: numbers[:6] for case, numbers in numbers_of_case.items()}
    numbers = [number for chosen in some.values() for number in chosen]
    row = {number: index for index, number in enumerate(numbers)}
    for device in (bench.device, "cpu"):
        embedder = make_embedder(bench.context(bench.trained, device))
        fisher = embedder.fisher(pool, some, dict.fromkeys(numbers, 1), convolutions(embedder.network))
        entries = {name: np.arange(0, m.weight.numel(), 11) for name, m in convolutions(embedder.network).items()}
        network = embedder.network
        vectors_N_d = np.zeros((len(numbers), sum(map(len, entries.values()))), np.float32)

        def vectors(data: torch.Tensor, weight: torch.Tensor, network: Any = network, entries: Any = entries) -> Any:
            return gradient_entries(network, data, weight, entries)

        embedder.embed(pool, some, vectors, 1.0, vectors_N_d, row)
        found.append((vectors_N_d, np.concatenate([part.cpu().numpy().ravel() for part in fisher.values()])))
    # near a kink of an activation two float32 gradients may differ: the vectors are compared as a whole
    (vectors_here, fisher_here), (vectors_cpu, fisher_cpu) = found
    apart = {"embeddings": _distance(vectors_here, vectors_cpu), "Fisher": _distance(fisher_here, fisher_cpu)}
    return _close(apart, 1e-2)


def prediction(bench: Bench) -> str:
    """The predicted segmentation of a test case is that of the CPU, but for ties."""
    from nnunet_al.rounds.round_model import make_predictor

    labels = []
    for device in (bench.device, "cpu"):
        context = bench.context(bench.trained, device)
        images = context.test_images()
        predict = make_predictor(context, context.checkpoint(context.round), images)
        labels.append(predict(sorted(images)[0]))
    same = float((labels[0] == labels[1]).mean())
    _expect(same > 0.99, f"only {same:.2%} of the voxels are the same")
    return f"{same:.2%} of the voxels the same"


def training(bench: Bench, precision: str, trainer: str = "nnUNetTrainerAL", **settings: Any) -> str:
    """Train, and train again with a kill behind the first epoch; compare losses, scaler and weights."""
    from nnunet_al.nnunet.environment import nnunet_folders
    from nnunet_al.nnunet.trainer_settings import TrainerSettings

    context = bench.context(bench.trained, bench.device)
    view = context.round.view
    ends = []
    with nnunet_folders(replace(view, results=bench.folder / f"{trainer}_{precision}"), **_trainer_variables()):
        wanted = TrainerSettings(
            epochs=2, iterations=4, batch_size=4, optimizer="sgd", seed=1, precision=precision, **settings
        )
        before = (view.preprocessed / DATASET / "nnUNetTrainerAL.json").read_text()
        wanted.write(view.preprocessed / DATASET)
        try:
            for killed in (False, True):
                with _reproducible():
                    ends.append(_train(context, bench.device, trainer, killed))
        finally:
            (view.preprocessed / DATASET / "nnUNetTrainerAL.json").write_text(before)
    (loss, weights, scale), (loss_resumed, weights_resumed, scale_resumed) = ends
    _expect(math.isfinite(loss), f"the loss is {loss}")
    _expect((scale is None) == (bench.device != "cuda"), f"the scale of the gradients is {scale}")
    _expect(scale == scale_resumed, f"the resumed training ends with the scale {scale_resumed}, not {scale}")
    # over all weights: those of a bias before a norm are rounding errors and nothing else
    apart = _distance(*(np.concatenate([one[name].ravel() for name in weights]) for one in (weights_resumed, weights)))
    _expect(apart <= (0 if bench.device == "cpu" else 1e-2), f"the resumed training's weights differ by {apart:.2g}")
    return f"loss {loss:.3f}, resumed {loss_resumed:.3f}, weights apart by {apart:.2g}"


def _train(context: Any, device: str, trainer: str, killed: bool) -> tuple[float, dict[str, np.ndarray], float | None]:
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    decided = context.decided

    def make(began: bool) -> Any:
        names = (decided.dataset, decided.configuration, decided.fold, trainer, decided.plans, began)
        made = get_trainer_from_args(*names, device=torch.device(device))
        maybe_load_checkpoint(made, began, False)
        return made

    made = make(False)
    shutil.rmtree(made.output_folder, ignore_errors=True)
    Path(made.output_folder).mkdir(parents=True)
    if killed:
        save = made.save_checkpoint

        def save_and_die(filename: str) -> None:
            save(filename)
            if Path(filename).stem == "checkpoint_latest":
                raise KeyboardInterrupt

        made.save_checkpoint = save_and_die
        try:
            made.run_training()
        except KeyboardInterrupt:
            made = make(True)
            _expect(made.current_epoch == 1, f"it resumes at epoch {made.current_epoch}")
    made.run_training()
    file = Path(made.output_folder) / "checkpoint_final.pth"
    content = torch.load(file, map_location="cpu", weights_only=False)
    weights = {name: value.double().numpy() for name, value in content["network_weights"].items()}
    module = content.get("nnunet_al_learning_loss")
    if trainer == "nnUNetTrainerALLearningLoss":
        _expect(module is not None, "the checkpoint holds no loss module")
        weights |= {f"module.{name}": value.double().numpy() for name, value in module["module"].items()}
    _expect(all(np.isfinite(value).all() for value in weights.values()), "weights are not finite")
    scaler = content["grad_scaler_state"]
    loss = float(made.logger.get_value("train_losses", step=-1))
    return loss, weights, None if scaler is None else float(scaler["scale"])


def training_stock(bench: Bench) -> str:
    """A training in nnU-Net's own precision, killed and resumed."""
    return training(bench, "stock")


def training_float32(bench: Bench) -> str:
    """A training in float32, killed and resumed."""
    return training(bench, "float32")


def training_half(bench: Bench) -> str:
    """A training in half precision, killed and resumed."""
    return training(bench, "half")


def training_learning_loss(bench: Bench) -> str:
    """A training of learning loss with two optimisers under one scaler, killed and resumed."""
    return training(bench, "stock", "nnUNetTrainerALLearningLoss")


def training_compiled(bench: Bench) -> str:
    """A training with torch.compile, as nnU-Net does by default on a GPU, in float32 and in its own precision."""
    if bench.device != "cuda":
        raise SkippedError("nnU-Net compiles on GPUs only")
    if importlib.util.find_spec("triton") is None or not any(map(shutil.which, ("gcc", "cc", "clang"))):
        raise SkippedError("torch.compile needs triton and a C compiler")
    os.environ["nnUNet_compile"] = "t"
    try:
        return "; ".join(f"{precision}: {training(bench, precision)}" for precision in ("stock", "float32"))
    finally:
        os.environ["nnUNet_compile"] = "f"


def flqmi(bench: Bench) -> str:
    """FLQMI selects the batch that it selects on the CPU."""
    from nnunet_al.selection.flqmi import flqmi as select
    from nnunet_al.selection.query import QuerySet
    from nnunet_al.selection.resources import Resources

    rng = np.random.default_rng(0)
    embeddings_N_d = rng.standard_normal((3000, 203)).astype(np.float32)
    query = QuerySet(np.sort(rng.permutation(3000)[:300]), rng.integers(1, 4, 300))
    names_N = [f"region{number:05d}" for number in range(3000)]
    worst = {}
    for cosine in (False, True):
        found = []
        for device in (bench.device, "cpu"):
            for memory in (None, 100 << 20):  # all rows of the kernel are kept, or few
                rule = (cosine, 1.0, 0.01, "stochastic", "streaming", Resources(device, memory))
                found.append(select(embeddings_N_d, query, names_N, 50, np.random.default_rng(1), *rule))
        reference = found[-1]
        for one in found:
            _expect(bool(np.array_equal(one.indices_B, reference.indices_B)), f"cosine {cosine}: another batch")
        worst[f"cosine {cosine}"] = max(_difference(one.gains_B, reference.gains_B) for one in found)
    return _close(worst, 1e-5)


def shards(bench: Bench) -> str:
    """A round in two shards has the scores, vectors and batch of the whole round."""
    from nnunet_al.campaign.decisions import Decisions
    from nnunet_al.files import read_arrays, read_json

    ends = {}
    for tag, calls in {"whole": [{}], "shards": [{"parts": 2, "part": 0}, {"parts": 2, "part": 1}] * 3}.items():
        folder = bench.campaign(tag)
        shutil.copytree(bench.trained.root, folder.root, symlinks=True)
        replace(Decisions.load(folder.decisions), tag=tag).save(folder.decisions)
        for options in calls:  # each shard does what has become possible
            bench.do_round(bench.request(tag), 1, **options)
        round_ = folder.round(1)
        ends[tag] = (read_json(round_.batch)["regions"], read_arrays(round_.scores), read_arrays(round_.fisher))
    whole, sharded = ends.values()
    for kind, one, other in (("scores", whole[1], sharded[1]), ("Fisher information", whole[2], sharded[2])):
        for name in one:
            _expect(bool(np.array_equal(one[name], other[name])), f"{kind}: {name} differs")
    _expect(whole[0] == sharded[0], "the batches differ")
    return f"{len(whole[0])} regions of {len(whole[1]['numbers_N'])}"


CHECKS: dict[str, Callable[[Bench], str]] = {
    check.__name__: check
    for check in (
        *(scoring_float32, scoring_half, place_in_batch, gradients, embedding_float32, prediction, shards, flqmi),
        *(training_stock, training_float32, training_half, training_learning_loss, demo, training_compiled),
    )
}


def _trainer_variables() -> dict[str, str]:
    from nnunet_al.nnunet.training import trainer_variables

    return trainer_variables()


@contextmanager
def _reproducible() -> Any:
    """Let cuDNN choose no algorithm by timing, so that two trainings differ by little."""
    flags = torch.backends.cudnn
    before = (flags.benchmark, flags.deterministic)
    flags.benchmark, flags.deterministic = False, True
    try:
        yield
    finally:
        flags.benchmark, flags.deterministic = before


def _difference(values: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest difference as a share of the largest value."""
    return float(np.abs(values - reference).max() / max(float(np.abs(reference).max()), 1e-30))


def _distance(values: np.ndarray, reference: np.ndarray) -> float:
    """Return the norm of the difference as a share of the norm of the reference."""
    return float(np.linalg.norm(values - reference) / max(float(np.linalg.norm(reference)), 1e-30))


def _close(differences: dict[str, float], most: float) -> str:
    _expect(all(value <= most for value in differences.values()), f"they differ by {_shown(differences)}")
    return f"apart by {_shown(differences)}"


def _shown(numbers: dict[str, float]) -> str:
    return ", ".join(f"{value:.3g} ({name})" for name, value in numbers.items())


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise FailedError(otherwise)


def machine(device: str) -> str:
    """Return one line on the machine."""
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return f"{name}, torch {torch.__version__}, Python {sys.version.split()[0]}, device {device}"


def do(name: str, bench: Bench, log: Path) -> str:
    """Do one check, print its line, and return its status; all that it prints goes to the log."""
    started = time.perf_counter()
    with log.open("a", encoding="utf-8") as sink, redirect_stdout(sink), redirect_stderr(sink):
        print(f"=== {name}", flush=True)
        try:
            status, detail = "ok", CHECKS[name](bench)
        except SkippedError as reason:
            status, detail = "skipped", str(reason)
        except Exception as error:
            traceback.print_exc()
            status, detail = "FAILED", " ".join(f"{type(error).__name__}: {error}".split())[:300]
            detail = detail.removeprefix("FailedError: ")
    line = f"{status:8}{name:24}{time.perf_counter() - started:6.1f} s  {detail}".rstrip()
    print(line, flush=True)
    return status


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"default: all of {', '.join(CHECKS)}")
    parser.add_argument("-device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("-minutes", type=float, default=MINUTES, help=f"begin no check later (default: {MINUTES:g})")
    parser.add_argument("-o", metavar="FOLDER", help="folder for files and log.txt (default: a temporary one)")
    arguments = parser.parse_args(argv)
    if unknown := sorted({*arguments.checks} - {*CHECKS}):
        parser.error(f"there is no check {unknown[0]}: choose from {', '.join(CHECKS)}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("FAILED  torch finds no GPU here: use -device cpu to check the checks", flush=True)
        return 1
    os.environ |= {"nnUNet_n_proc_DA": "0", "MPLBACKEND": "Agg"}
    os.environ["nnUNet_compile"] = "f"  # a compilation takes longer than these trainings; one check compiles
    folder = Path(arguments.o or mkdtemp(prefix="nnunet_al_on_gpu_")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    print(machine(arguments.device), flush=True)
    bench, started = Bench(arguments.device, folder / f"run_{os.getpid()}"), time.monotonic()
    bench.folder.mkdir()
    statuses = []
    for name in arguments.checks or CHECKS:
        if time.monotonic() - started > 60 * arguments.minutes:
            print(f"skipped {name:24}  {arguments.minutes:g} minutes are over", flush=True)
            continue
        statuses.append(do(name, bench, folder / "log.txt"))
    if arguments.device == "cuda":
        print(f"at most {torch.cuda.max_memory_allocated() / 1e9:.2f} GB of GPU memory in this process", flush=True)
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in ("ok", "FAILED", "skipped"))
    print(f"{counts}; {time.monotonic() - started:.0f} s; log: {folder / 'log.txt'}", flush=True)
    shutil.rmtree(bench.folder, ignore_errors=True)
    return 1 if "FAILED" in statuses else 0


if __name__ == "__main__":
    sys.exit(main())
