"""One whole round by stage: in half precision, in float32 and with ``-dropout last``, beside its bare network passes.

    python benchmarks/round.py [-cases 60] [-epochs 1] [-iterations 20] [-repetitions 2] [--quick] [--json FILE]

Three campaigns of USIMF on equal cases, equal first batches and equal seeds do round 1 in turn, A B C A B C: with
``-precision auto`` ("half" below: half precision on a CPU that has it and on a GPU), with ``-precision float32``, and
with ``-precision auto -dropout last``. Each repetition is a new campaign. The images are preprocessed before, because
a dataset's campaigns share them. The seconds of the stages are those of the round's markers (``stages/*.json``);
"start-up" is the time that a new process takes to load what a round uses, "between" the rest of the round.

``round_half_vs_float32`` and ``round_last_vs_float32`` are the ratios of whole rounds, start-up included.

``round_overhead_percent`` is, of the round in half precision, the share of its time in which neither its network
computes nor nnU-Net makes training batches:

    100 · (start-up + round - network - batches) / (start-up + round)

A stopwatch runs while the round is in the outermost call of a torch module (network and loss), in a backward pass, or
in a step of the optimiser; together this is "network". Another one runs while nnU-Net's loader makes a batch: stock
training has this augmentation, too, so it is listed apart (``round_batches_percent``) and is no overhead of ours.
Everything else counts: start-up (``round_start_up_percent``), the stages without a network
(``round_other_stages_percent``), and within those with one the products of USIMF's gradients, probabilities and voxel
maps, reading windows, saving checkpoints.

``round_half_vs_bare`` compares the same round with bare passes in float32, measured in this process: as many training
and validation steps of nnU-Net's own trainer, batches included; T forward passes for each window of the candidates; a
forward and backward pass for each candidate and each region that the Fisher information is averaged over; a forward
pass for each window of the test cases. The forward pass is the faster of the stock and the arranged network.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch
from measuring import Claim, Timing, alternate, make_parser, report
from scoring import bare, best_size
from setting import Setting

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.request import Request
from nnunet_al.campaign.stages import EMBED, EVALUATE, FINAL_STAGE, FISHER, PREPARATION, SCORE, SELECT, TRAIN
from nnunet_al.files import read_arrays, read_json
from nnunet_al.nnunet.environment import nnunet_folders, quiet
from nnunet_al.pool.table import by_case
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round import do_round
from nnunet_al.rounds.round_model import load_round_model, window_pool
from nnunet_al.rounds.run_stages import run_stages
from nnunet_al.rounds.stages.order import MODEL_STAGES
from nnunet_al.scoring.fast_network import fast_network
from nnunet_al.scoring.tensors import full_resolution

STRATEGY = "usimf"
WAYS: dict[str, dict[str, str]] = {
    "half": {"precision": "auto"},
    "float32": {"precision": "float32"},
    "last": {"precision": "auto", "dropout": "last"},
}
_STAGES = (*PREPARATION, TRAIN, EVALUATE, SCORE, FISHER, EMBED, SELECT, FINAL_STAGE)
MODULES = ("nnunet_al.rounds.round", *(f"nnunet_al.rounds.stages.{stage}" for stage in _STAGES))
WINDOWS = 128  # for the bare passes, whose times are extrapolated
STEPS = 3


@dataclass
class Stopwatch:
    """Seconds in the network and in the loader of training batches, while `running`."""

    seconds: dict[str, float] = field(default_factory=lambda: {"network": 0.0, "batches": 0.0})
    _inside: bool = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch torch's modules, backward passes and optimisers, and nnU-Net's loaders, inside the ``with`` block."""
        from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
        from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter

        patches = [mock.patch.object(torch.nn.Module, "__call__", self._timed(torch.nn.Module.__call__, "network"))]
        patches += [
            mock.patch.object(torch.autograd, name, self._timed(getattr(torch.autograd, name), "network"))
            for name in ("grad", "backward")
        ]
        for optimizer in (torch.optim.SGD, torch.optim.AdamW):
            patches.append(mock.patch.object(optimizer, "step", self._timed(optimizer.step, "network")))
        for loader in (SingleThreadedAugmenter, NonDetMultiThreadedAugmenter):
            patches.append(mock.patch.object(loader, "__next__", self._timed(loader.__next__, "batches")))
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()

    def _timed(self, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        @wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            if self._inside:
                return function(*arguments, **options)
            self._inside, started = True, time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._inside = False
                self.seconds[kind] += time.perf_counter() - started

        return call


@dataclass
class Rounds:
    """The campaigns of all ways, and what was measured of each of their rounds."""

    setting: Setting
    asked: dict[str, Any]
    found: dict[str, list[dict[str, float]]] = field(default_factory=lambda: {way: [] for way in WAYS})

    def request(self, way: str, tag: str) -> Request:
        """Return the request of one campaign."""
        return replace(self.setting.request(STRATEGY, **{**self.asked, **WAYS[way]}), tag=tag)

    def context(self, tag: str, number: int = 1) -> RoundContext:
        """Return the context of a campaign's round."""
        return self.setting.context(self._folder(tag), number)

    def begin(self, way: str, tag: str) -> None:
        """Draw the first batch of a new campaign; one that an earlier call has left is removed."""
        shutil.rmtree(self._folder(tag).root, ignore_errors=True)
        do_round(self.setting.roots, self.request(way, tag), self.setting.options, 0)

    def warm_up(self) -> None:
        """Preprocess the images, which a dataset's campaigns share, in a campaign of its own."""
        self.begin("half", "warm.up")
        context = self.context("warm.up")
        names = [stage.name for stage in MODEL_STAGES]
        run_stages(MODEL_STAGES[: names.index("images") + 1], context, context.round.stages)

    def measure(self, way: str, tag: str) -> None:
        """Do round 1 of a campaign and note the seconds of its stages, its network and its batches."""
        watch = Stopwatch()
        started = time.perf_counter()
        with watch.running():
            do_round(self.setting.roots, self.request(way, tag), self.setting.options, 1)
        seconds = time.perf_counter() - started
        markers = sorted(self.context(tag).round.stages.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        of_stage = {path.stem: float(read_json(path)["seconds"]) for path in markers}
        between = {"between": seconds - sum(of_stage.values())}
        self.found[way].append({**of_stage, **between, "round": seconds, **watch.seconds})

    def _folder(self, tag: str) -> CampaignFolder:
        setting = self.setting
        return CampaignFolder.of(setting.roots, setting.dataset, "2d", STRATEGY, setting.seed, tag, 0)


def start_up(repetitions: int) -> float:
    """Return the seconds that a new process takes to load what the stages of a round use."""
    command = [sys.executable, "-c", f"import {', '.join(MODULES)}"]
    ways = {"start": lambda: subprocess.run(command, check=True, capture_output=True)}
    return alternate(ways, repetitions, warm_ups=0)["start"].median


def bare_seconds(context: RoundContext, n_steps: int, n_validation: int) -> dict[str, float]:
    """Return the seconds of bare passes in float32, as many as the round needs."""
    device = context.options.device
    scored_N = read_arrays(context.round.scores)["numbers_N"].tolist()
    some = sorted(np.random.default_rng(0).permutation(scored_N)[:WINDOWS].tolist())
    chunks = list(window_pool(context).chunks(by_case(context.regions, some), WINDOWS, 2))
    data_N_C_xyz = torch.cat([chunk.data_B_C_xyz for chunk in chunks]).to(device)
    per_region = len(data_N_C_xyz) / len(some)  # windows of a region
    checkpoint = context.checkpoint(context.round)
    networks = {
        "stock": load_round_model(context, checkpoint)[1],
        "arranged": fast_network(load_round_model(context, checkpoint)[1]),
    }
    sizes = {name: best_size(network, data_N_C_xyz, device) for name, network in networks.items()}

    def forward(name: str) -> Callable[[], None]:
        return lambda: bare(networks[name], data_N_C_xyz, 1, sizes[name])

    def backward(name: str) -> Callable[[], None]:
        def work() -> None:
            for batch_B_C_xyz in data_N_C_xyz.split(sizes[name]):
                full_resolution(networks[name](batch_B_C_xyz)).sum().backward()

        return work

    ways = {f"{name} {kind.__name__}": kind(name) for name in networks for kind in (forward, backward)}
    times = {name: timing.median / len(data_N_C_xyz) for name, timing in alternate(ways, 2, device=device).items()}
    once = min(times["stock forward"], times["arranged forward"])
    twice = min(times["stock backward"], times["arranged backward"])
    draws = context.decided.recipe.parameters["fisher_samples"]
    training, validation = stock_step_seconds(context)
    return {
        "train": n_steps * training + n_validation * validation,
        "score": len(scored_N) * per_region * context.decided.recipe.passes * once,
        "embed": len(scored_N) * per_region * twice,
        "fisher": min(draws, len(scored_N)) * per_region * twice,
        "evaluate": test_windows(context) * once,
    }


def stock_step_seconds(context: RoundContext) -> tuple[float, float]:
    """Return the median seconds of a training and a validation step of nnU-Net's own trainer, with its batches."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    decided, view = context.decided, context.round.view
    dataset_json = read_json(view.preprocessed / decided.dataset / "dataset.json")
    plans = {**context.plans, "continue_training": False}  # as nnU-Net's command does
    with quiet(), nnunet_folders(view):
        trainer = nnUNetTrainer(
            plans, decided.configuration, decided.fold, dataset_json, torch.device(context.options.device)
        )
        trainer.initialize()
        if decided.batch_size is not None:
            trainer.batch_size = decided.batch_size
        training, validation = trainer.get_dataloaders()
        ways: dict[str, Callable[[], Any]] = {"training": lambda: trainer.train_step(next(training))}
        trainer.network.train()
        step = alternate(ways, STEPS, device=context.options.device)["training"].median
        trainer.network.eval()
        with torch.no_grad():
            ways = {"validation": lambda: trainer.validation_step(next(validation))}
            check = alternate(ways, STEPS, device=context.options.device)["validation"].median
        for loader in (training, validation):
            if hasattr(loader, "_finish"):  # of processes that augment
                loader._finish()
    return step, check


def test_windows(context: RoundContext) -> int:
    """Return the number of windows of nnU-Net's sliding window over the test cases."""
    from nnunet_al.nnunet.prediction import _slicers

    patch_size = tuple(context.configuration["patch_size"])
    count = 0
    for stored in context.test_images().values():
        shape = stored.open().shape[1:]
        padded = [max(size, patch) for size, patch in zip(shape[-len(patch_size) :], patch_size, strict=True)]
        count += len(_slicers((*shape[: len(shape) - len(patch_size)], *padded), patch_size))
    return count


def table_of_stages(rounds: Rounds, starting: float) -> list[str]:
    """Return a Markdown table: a line for each stage, a column of median seconds for each way."""
    every = dict.fromkeys(name for found in rounds.found.values() for name in found[0])
    sums = ("round", "network", "batches")
    lines = ["| stage | " + " | ".join(f"{way} (s)" for way in WAYS) + " |", "|" + " --- |" * (len(WAYS) + 1)]
    lines.append("| start-up | " + " | ".join(f"{starting:.2f}" for _ in WAYS) + " |")
    for name in (*(name for name in every if name not in sums), *sums):
        cells = [f"{median(one.get(name, 0.0) for one in rounds.found[way]):.2f}" for way in WAYS]
        label = {"network": "network, of the round", "batches": "training batches, of the round"}.get(name, name)
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines


def claims_of(rounds: Rounds, starting: float, bare_of: dict[str, float], note: str) -> list[Claim]:
    """Return the claims on the measured rounds."""
    whole = {way: Timing(tuple(starting + one["round"] for one in found)) for way, found in rounds.found.items()}

    def percent(way: str, part: Callable[[dict[str, float]], float]) -> float:
        return median(100 * part(one) / (starting + one["round"]) for one in rounds.found[way])

    def outside(one: dict[str, float]) -> float:
        return starting + one["round"] - one["network"] - one["batches"]

    of_network = (
        TRAIN,
        EVALUATE,
        f"{SCORE}_part_0_of_1",
        FISHER,
        f"{EMBED}_part_0_of_1",
        "round",
        "network",
        "batches",
    )

    def others(one: dict[str, float]) -> float:
        return sum(seconds for name, seconds in one.items() if name not in of_network)

    total = Timing((sum(bare_of.values()),) * len(rounds.found["half"]))
    return [
        Claim.of_times("round_half_vs_float32", whole["half"], whole["float32"], note=f"-precision auto; {note}"),
        Claim.of_times("round_last_vs_float32", whole["last"], whole["float32"], note="with -dropout last"),
        Claim.of_times("round_half_vs_bare", whole["half"], total, note="bare passes in float32 / the round"),
        Claim.of_times("round_last_vs_bare", whole["last"], total, note="the same with -dropout last"),
        Claim("round_overhead_percent", None, percent("half", outside), None, "%", note="outside network and batches"),
        Claim("round_last_overhead_percent", None, percent("last", outside), None, "%", note="with -dropout last"),
        Claim("round_start_up_percent", None, percent("half", lambda _: starting), None, "%", note="of that: start-up"),
        Claim(
            "round_other_stages_percent", None, percent("half", others), None, "%",
            note="of that: stages without a network (labels, fingerprint, preprocessing, selection, annotation)",
        ),
        Claim(
            "round_batches_percent", None, percent("half", lambda one: one["batches"]), None, "%",
            note="nnU-Net's loader of training batches",
        ),
    ]  # fmt: skip


def asked_of(arguments: Namespace) -> dict[str, Any]:
    """Return the settings of all campaigns."""
    if arguments.quick:
        training = {"batch_size": 4, "iterations": 3, "initial": 10, "budget": 10}
        parameters = {"passes": 4, "query_size": 30, "fisher_samples": 10}
    else:
        training = {"batch_size": arguments.batch_size, "iterations": 20, "initial": arguments.initial, "budget": 100}
        parameters = {}
    training["iterations"] = arguments.iterations or training["iterations"]
    training["epochs"] = arguments.epochs
    return {"trainer": None, "optimizer": "sgd", "unit": arguments.unit, "parameters": parameters, **training}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "-cases", type=int, default=60, help="use only the first CASES cases (default: 60, 48 of them in the pool)"
    )
    parser.add_argument(
        "-initial", type=int, default=221, help="regions of the first batch (default: 221, which leave 1546 candidates)"
    )
    parser.add_argument("-unit", default="slice", choices=["slice", "patch"], help="unit of annotation")
    parser.add_argument("-epochs", type=int, default=1)
    parser.add_argument("-iterations", type=int, help="iterations of an epoch (default: 20, quick: 3)")
    parser.add_argument("-batch_size", type=int, help="training batch size (default: the plan's)")
    parser.add_argument("-np", type=int, default=2, help="processes for preprocessing")
    parser.set_defaults(b=None, seed=0)
    arguments = parser.parse_args()
    repetitions = arguments.repetitions or (1 if arguments.quick else 2)
    setting = Setting.of(arguments)
    for module in MODULES:  # not within the first round that is measured
        importlib.import_module(module)
    rounds = Rounds(setting, asked_of(arguments))
    with setting.environment():
        rounds.warm_up()
        for repetition in range(repetitions):
            for way in WAYS:
                rounds.begin(way, f"{way}.{repetition}")
                rounds.measure(way, f"{way}.{repetition}")
        context = rounds.context("half.0")
        decided = context.decided
        iterations, epochs = decided.iterations, arguments.epochs
        bare_of = bare_seconds(context, epochs * iterations, epochs * max(1, iterations // 5))
    starting = start_up(1 if arguments.quick else 3)
    candidates = len(read_arrays(context.round.scores)["numbers_N"])
    cases = len(decided.cases)
    note = f"{cases} cases, {candidates} candidates, {epochs * iterations} iterations, {decided.precision}"
    claims = claims_of(rounds, starting, bare_of, note)
    report(
        arguments,
        "round",
        claims,
        cases=cases,
        candidates=candidates,
        precision=decided.precision,
        start_up_seconds=starting,
        rounds=rounds.found,
        bare_float32_seconds=bare_of,
    )
    print("\n".join(["", *table_of_stages(rounds, starting), ""]))
    print("Bare passes in float32 (s): " + ", ".join(f"{name} {value:.1f}" for name, value in bare_of.items()))


if __name__ == "__main__":
    main()
