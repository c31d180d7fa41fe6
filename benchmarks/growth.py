"""Growth of the cost of each part of a round with the pool: seconds ~ pool ^ exponent; 1 is proportional.

Nested pools of n, 2n, 4n and 8n cases of one dataset have the same plans, annotations and model (those of the smallest
pool; the model is trained briefly, because its predictions do not change the times). The stages are those of a round
of USIMF (2d). They run in one process, so that the times include no start of processes: once on the smallest pool to
warm up, then repeatedly from the smallest to the largest.

Other influences on the growth are held fixed: the model makes 2 passes, the query set has 100 draws (the kernel is
pool x query set, and by default the query set grows with the pool), and the Fisher information of 10 of its regions is
not counted, because it does not depend on the pool.

The unit of the pool's size depends on the part: regions for scoring, embedding and selection, voxels for preprocessing
images and labels, otherwise cases.
"""

from __future__ import annotations

import shutil
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import Claim, fitted_exponent, make_parser, report
from setting import QUICK_TRAINING, Setting, phantoms, subset

from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.files import read_arrays, write_json
from nnunet_al.nnunet.environment import Roots, quiet
from nnunet_al.nnunet.raw_dataset import RawDataset
from nnunet_al.nnunet.round_view import preprocess_round, write_round_view
from nnunet_al.pool.table import save_regions
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round import do_round
from nnunet_al.rounds.run_stages import run_stages
from nnunet_al.rounds.stages.order import MODEL_STAGES, first_round, selection_stages

FACTORS = (1, 2, 4, 8)
TEST_CASES = 2  # a campaign needs test cases, though nothing is evaluated
PARAMETERS = {"passes": 2, "query_size": 100, "fisher_samples": 10}
REQUEST = {"trainer": None, "engine": "streaming", "parameters": PARAMETERS}
SCORING = ("score_part_0_of_1",)
EMBEDDING = ("embed_part_0_of_1", "embed")
SELECTION = ("select",)
LEFT_OUT = ("fisher",)
SKIPPED = ("train", "evaluate")


@dataclass(frozen=True)
class Pools:
    """Pools of growing size.

    Attributes
    ----------
    trained : the campaign whose annotations and model all others use
    campaigns : one per pool, by the number of its cases
    """

    setting: Setting
    trained: CampaignFolder
    campaigns: dict[int, CampaignFolder]

    @classmethod
    def of(cls, setting: Setting, smallest: int) -> Pools:
        """Make the pools and train on the smallest, unless an earlier call has trained it."""
        do_round(setting.roots, setting.request("usimf", **REQUEST), setting.options, 0)
        everything = setting.context(setting.campaign("usimf"), 0)
        pools = {factor * smallest: nested(everything.decided.pool_cases, factor * smallest) for factor in FACTORS}
        trained = campaign_on(setting, everything, pools[smallest], "trained")
        first, second = setting.context(trained, 0), setting.context(trained, 1)
        run_stages(first_round(first.decided), first, first.round.stages)
        run_stages([stage for stage in MODEL_STAGES if stage.name != "evaluate"], second, second.round.stages)
        # a dataset's images are preprocessed once for all campaigns: measured separately
        whole = replace(second.decided, pool_cases=everything.decided.pool_cases)
        RoundContext(trained, 1, whole, setting.roots, second.data, setting.options).pool_images()
        campaigns = {count: campaign_on(setting, everything, cases, f"{count}") for count, cases in pools.items()}
        return cls(setting, trained, campaigns)

    def round_seconds(self, cases: int) -> dict[str, float]:
        """Do a round on a pool from the start with the trained model, and return the seconds of each stage."""
        folder = self.campaigns[cases]
        round_folder = folder.round(1)
        shutil.rmtree(round_folder.root, ignore_errors=True)
        shutil.rmtree(folder.ledger, ignore_errors=True)
        shutil.copytree(self.trained.ledger, folder.ledger)
        round_folder.root.mkdir(parents=True)
        round_folder.view.results.symlink_to(self.trained.round(1).view.results)
        started = time.perf_counter()
        context = self.setting.context(folder, 1)
        seconds = {"open": time.perf_counter() - started}
        for stage in (*MODEL_STAGES, *selection_stages(context.decided)):
            if stage.name not in SKIPPED:
                started = time.perf_counter()
                run_stages([stage], context, round_folder.stages)
                seconds[stage.name] = time.perf_counter() - started
        return seconds

    def preprocessing_seconds(self, cases: int) -> float:
        """Preprocess all images and all complete labels of a pool from scratch; return the seconds."""
        context = self.setting.context(self.trained, 1)
        data, log = context.data, context.log("preprocess")
        labels = {case: data.dataset.cases[case].label for case in self.decided(cases).pool_cases}
        with TemporaryDirectory(dir=self.setting.roots.preprocessed) as folder:
            view = Roots.below(Path(folder))
            write_round_view(view, data.dataset, labels)
            configuration, store = context.decided.configuration, Path(folder) / "images"
            started = time.perf_counter()
            preprocess_round(view, data.dataset, labels, data.facts, context.plans, configuration, store, log=log)
            return time.perf_counter() - started

    def decided(self, cases: int) -> Decisions:
        """Return the decisions of the campaign on a pool."""
        return Decisions.load(self.campaigns[cases].decisions)

    def sizes(self, cases: int) -> dict[str, int]:
        """Return the size of a pool; its candidates are known after a round."""
        facts = self.setting.context(self.trained, 1).data.facts
        return {
            "cases": cases,
            "voxels": sum(prod(facts[case].raw_shape) for case in self.decided(cases).pool_cases),
            "candidates": len(read_arrays(self.campaigns[cases].round(1).scores)["numbers_N"]),
        }


def campaign_on(setting: Setting, everything: RoundContext, cases: Sequence[str], name: str) -> CampaignFolder:
    """Return a campaign on some cases of another campaign's pool, with its plans."""
    folder = CampaignFolder(setting.roots.results / setting.dataset / "growth" / name / "fold_0")
    folder.root.mkdir(parents=True, exist_ok=True)
    if not folder.prepared.root.is_symlink():
        folder.prepared.root.symlink_to(everything.folder.prepared.root)
    chosen = set(cases)
    save_regions(folder.root / "regions.npz", [region for region in everything.regions if region.case in chosen])
    replace(everything.decided, pool_cases=tuple(cases), regions_checksum=None).save(folder.decisions)
    return folder


def nested(cases: Sequence[str], count: int) -> Sequence[str]:
    """Return ``count`` evenly spaced cases; the selection for half the count is a subset."""
    return cases[:: len(cases) // count][:count]


def make_setting(arguments: Namespace, smallest: int) -> Setting:
    """Write a dataset with the cases of the largest pool and a few test cases."""
    wanted = smallest * FACTORS[-1] + TEST_CASES
    roots = Roots.below(Path(arguments.o).absolute() / f"growth_{'quick_' if arguments.quick else ''}{wanted}").create()
    dataset = phantoms(roots, wanted) if arguments.quick else subset(roots, arguments.data, wanted)
    cases = sorted(RawDataset.read(roots.raw / dataset).cases)
    if len(cases) < wanted:
        raise SystemExit(f"{dataset} has {len(cases)} cases, {wanted} are wanted: choose a smaller -smallest.")
    split = {"train": cases[:-TEST_CASES], "val": cases[-TEST_CASES:]}
    write_json(roots.raw / dataset / "splits_final.json", [split])
    options = Options(device=arguments.device, workers=1)
    return Setting(roots, dataset, options, seed=0, budget=10 if arguments.quick else 50, training=QUICK_TRAINING)


@dataclass(frozen=True)
class Part:
    """One part of the cost: its description, the unit of the pool's size, and its seconds.

    Attributes
    ----------
    seconds : of each repetition, by the number of cases
    """

    name: str
    note: str
    measure: str
    seconds: Sequence[Mapping[int, float]]

    def medians(self) -> dict[int, float]:
        """Return the median over the repetitions."""
        return {cases: statistics.median(one[cases] for one in self.seconds) for cases in self.seconds[0]}

    def claim(self, sizes: Mapping[int, Mapping[str, int]]) -> Claim:
        """Claim the exponent of the medians; the spread is that of the exponents of the repetitions."""
        counts = [sizes[cases][self.measure] for cases in sizes]
        each = [fitted_exponent(counts, [one[cases] for cases in sizes]) for one in self.seconds]
        exponent = fitted_exponent(counts, list(self.medians().values()))
        note = f"{self.note}; {counts[0]} to {counts[-1]} {self.measure}; 1 is proportional"
        return Claim(f"growth_{self.name}_exponent", None, exponent, 1.0, "exponent", (min(each), max(each)), note)


def parts_of(rounds: list[dict[int, dict[str, float]]], preprocessing: list[dict[int, float]]) -> list[Part]:
    """Group the seconds of the stages into parts."""

    def total(of_stage: Callable[[str], bool]) -> list[dict[int, float]]:
        return [
            {cases: sum(value for stage, value in stages.items() if of_stage(stage)) for cases, stages in one.items()}
            for one in rounds
        ]

    apart = {*SCORING, *EMBEDDING, *LEFT_OUT}
    return [
        Part("scoring", "sampling and scoring the candidates", "candidates", total(lambda stage: stage in SCORING)),
        Part("preprocessing", "all images and labels from scratch", "voxels", preprocessing),
        Part("embedding", "gradients of the candidates", "candidates", total(lambda stage: stage in EMBEDDING)),
        Part("selection", "FLQMI, query set held fixed", "candidates", total(lambda stage: stage in SELECTION)),
        Part(
            "overhead",
            "all of a round but training, evaluation, scoring and embedding, the annotated cases held fixed",
            "cases",
            total(lambda stage: stage not in apart),
        ),
    ]


def print_seconds(parts: Sequence[Part], sizes: Mapping[int, Mapping[str, int]]) -> None:
    """Print the medians of the seconds at each size."""
    heads = [f"{one['cases']} cases, {one['candidates']} candidates (s)" for one in sizes.values()]
    print("| part | " + " | ".join(heads) + " |")
    print("|" + " --- |" * (1 + len(sizes)))
    for part in parts:
        print(f"| {part.name} | " + " | ".join(f"{seconds:.3g}" for seconds in part.medians().values()) + " |")
    print()


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("-smallest", type=int, help="cases of the smallest pool (default: 6, with --quick 2)")
    arguments = parser.parse_args()
    smallest = arguments.smallest or (2 if arguments.quick else 6)
    repetitions = arguments.repetitions or (1 if arguments.quick else 3)
    setting = make_setting(arguments, smallest)
    rounds: list[dict[int, dict[str, float]]] = []
    preprocessing: list[dict[int, float]] = []
    with setting.environment(), quiet():
        pools = Pools.of(setting, smallest)
        pools.round_seconds(smallest)
        pools.preprocessing_seconds(smallest)
        for _ in range(repetitions):
            rounds.append({cases: pools.round_seconds(cases) for cases in pools.campaigns})
            preprocessing.append({cases: pools.preprocessing_seconds(cases) for cases in pools.campaigns})
        sizes = {cases: pools.sizes(cases) for cases in pools.campaigns}
    parts = parts_of(rounds, preprocessing)
    print_seconds(parts, sizes)
    numbers = {"sizes": sizes, "rounds": rounds, "preprocessing_s": preprocessing}
    report(arguments, "growth", [part.claim(sizes) for part in parts], **numbers)


if __name__ == "__main__":
    main()
