"""Shared code of the benchmarks of strategies: data, a round that is trained once, and selections from it.

All files are in the output folder, so an interrupted benchmark can be continued.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine

from nnunet_al.campaign.data import read_data
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.request import Request
from nnunet_al.files import read_json, write_json, write_text
from nnunet_al.nnunet.environment import Roots, nnunet_folders
from nnunet_al.rounds.candidates import read_scores, with_embeddings
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round import do_round
from nnunet_al.rounds.run_stages import run_stages
from nnunet_al.rounds.stages.order import MODEL_STAGES, selection_stages
from nnunet_al.strategies.recipe import Recipe
from nnunet_al.strategies.select import Candidates

TRAINER = "nnUNetTrainerALLearningLoss"  # its checkpoints serve every strategy, learning_loss included
TRAINING = {"epochs": 6, "iterations": 20, "batch_size": 32, "optimizer": "adamw"}
QUICK_TRAINING = {"epochs": 2, "iterations": 4, "batch_size": 4, "optimizer": "adamw"}


def make_parser(description: str, strategies: Sequence[str]) -> ArgumentParser:
    """Return a parser with the options of all benchmarks of strategies."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("-s", nargs="+", default=strategies, metavar="STRATEGY", help="strategies to compare")
    parser.add_argument("-data", metavar="FOLDER", help="raw dataset (default: the Hippocampus of NNUNET_AL_TEST_DATA)")
    parser.add_argument("-cases", type=int, help="use only the first CASES cases")
    parser.add_argument("-o", default="benchmark_results", metavar="FOLDER", help="folder for campaigns and tables")
    parser.add_argument("-b", type=int, help="budget (default: 100, with --quick 10)")
    parser.add_argument("-seed", type=int, default=0)
    parser.add_argument("-device", default="cpu", choices=["cpu", "cuda", "mps"])
    parser.add_argument("-np", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="on a few phantoms, as a check that it runs")
    parser.add_argument("--json", metavar="FILE", help="file for all numbers")
    return parser


@dataclass(frozen=True)
class Setting:
    """nnU-Net's folders of one benchmark, its dataset, and the training settings of its campaigns."""

    roots: Roots
    dataset: str
    options: Options
    seed: int
    budget: int
    training: dict[str, Any]

    @classmethod
    def of(cls, arguments: Namespace) -> Setting:
        """Use the named dataset, or make one."""
        kind = "quick" if arguments.quick else f"cases_{arguments.cases or 'all'}"
        roots = Roots.below(Path(arguments.o).absolute() / kind).create()
        dataset = phantoms(roots) if arguments.quick else subset(roots, arguments.data, arguments.cases)
        return cls(
            roots,
            dataset,
            Options(device=arguments.device, workers=arguments.np),
            arguments.seed,
            arguments.b or (10 if arguments.quick else 100),
            QUICK_TRAINING if arguments.quick else TRAINING,
        )

    def request(self, strategy: str, **others: Any) -> Request:
        """Return the request of the equivalent command line."""
        asked = {
            "trainer": TRAINER,
            "budget": self.budget,
            "initial": self.budget,
            "disable_tta": True,
            **self.training,
            **others,
        }
        return Request(self.dataset, "2d", 0, self.seed, None, strategy, **asked)

    def campaign(self, strategy: str) -> CampaignFolder:
        """Return the folder of a strategy's campaign."""
        return CampaignFolder.of(self.roots, self.dataset, "2d", strategy, self.seed, None, 0)

    def context(self, folder: CampaignFolder, number: int) -> RoundContext:
        """Return the context for the stages of a round."""
        decided = Decisions.load(folder.decisions)
        data = read_data(self.roots, self.dataset, decided.test, self.options.workers)
        return RoundContext(folder, number, decided, self.roots, data, self.options)

    def trained_round(self) -> RoundContext:
        """Return round 1 of a campaign: trained and evaluated, before the selection."""
        with self.environment():
            do_round(self.roots, self.request("random"), self.options, 0)
            context = self.context(self.campaign("random"), 1)
            run_stages(MODEL_STAGES, context, context.round.stages)
        return context

    def select(self, base: RoundContext, recipe: Recipe) -> tuple[RoundContext, dict[str, float]]:
        """Let a strategy select from the trained round; return its context and the seconds of each stage."""
        context = self._under_strategy(base, recipe)
        stages = [stage for stage in selection_stages(context.decided) if stage.name != "annotate"]
        with self.environment():
            run_stages(stages, context, context.round.stages)
        return context, {s.name: read_json(context.round.stages / f"{s.name}.json")["seconds"] for s in stages}

    def _under_strategy(self, base: RoundContext, recipe: Recipe) -> RoundContext:
        """Return the same trained round in the campaign of another strategy; nothing is copied."""
        folder = CampaignFolder(self.roots.results / self.dataset / "branches" / recipe.name / "fold_0")
        ours, theirs = folder.round(1).root, base.round.root
        ours.mkdir(parents=True, exist_ok=True)
        links = {folder.root / name: base.folder.root / name for name in ("ledger", "prepared", "regions.npz")}
        links |= {ours / view: theirs / view for view in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        for link, target in links.items():
            if not link.is_symlink():
                link.symlink_to(target)
        replace(base.decided, recipe=recipe, engine=base.decided.engine or "streaming").save(folder.decisions)
        return self.context(folder, 1)

    @contextmanager
    def environment(self) -> Iterator[None]:
        """Set nnU-Net's environment variables within the block."""
        with nnunet_folders(self.roots, nnUNet_n_proc_DA=os.environ.get("nnUNet_n_proc_DA", "0")):
            yield


def candidates_of(context: RoundContext) -> tuple[Candidates, np.ndarray]:
    """Return the candidates of a strategy with their scores and embeddings, and their region numbers."""
    candidates, numbers_N = read_scores(context)
    if context.decided.recipe.embedding is not None:
        candidates = with_embeddings(context, candidates)
    return candidates, numbers_N


def report(arguments: Namespace, name: str, head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Any) -> None:
    """Print a Markdown table, and write the table and the numbers."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    print("\n".join(lines))
    write_text(Path(arguments.o) / f"{name}{'_quick' if arguments.quick else ''}.md", "\n".join(lines) + "\n")
    if arguments.json:
        write_json(Path(arguments.json), {"machine": machine(), **numbers})


def phantoms(roots: Roots, cases: int = 10) -> str:
    """Make a small dataset of phantoms, unless it is there, and return its name."""
    from nnunet_al.synthetic.phantom import make_phantom_dataset

    dataset = "Dataset998_BenchmarkPhantom"
    if not (roots.raw / dataset / "dataset.json").is_file():
        make_phantom_dataset(roots.raw / dataset, cases=cases, shape=(16, 32, 32))
    return dataset


def subset(roots: Roots, data: str | None, cases: int | None) -> str:
    """Make a dataset of the first cases of a raw dataset without copying files, and return its name.

    With all cases, a ``splits_final.json`` beside them is used, as of patients with several images.
    """
    if data is None and "NNUNET_AL_TEST_DATA" not in os.environ:
        raise SystemExit("Name a raw dataset with -data, or the folder of the Hippocampus in NNUNET_AL_TEST_DATA.")
    source = Path(data or Path(os.environ["NNUNET_AL_TEST_DATA"]) / "Dataset004_Hippocampus").absolute()
    content = read_json(source / "dataset.json")
    ending = content["file_ending"]
    names = sorted(path.name.removesuffix(ending) for path in (source / "labelsTr").glob(f"*{ending}"))[:cases]
    content["numTraining"] = len(names)
    content["dataset"] = {
        name: {
            "images": [str(path) for path in sorted((source / "imagesTr").glob(f"{name}_????{ending}"))],
            "label": str(source / "labelsTr" / f"{name}{ending}"),
        }
        for name in names
    }
    write_json(roots.raw / source.name / "dataset.json", content)
    splits = source / "splits_final.json"
    if cases is None and splits.is_file():
        write_json(roots.preprocessed / source.name / splits.name, read_json(splits))
    return source.name
