"""The protocol of the benchmark that compares strategies, as data: sets, strategies, training, options.

A campaign begins with a batch drawn at random, the same for all strategies of a seed, and asks for `ROUNDS` more. The
seed changes that batch, the weights of the first model, and every draw.
"""

from __future__ import annotations

import re
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_al.cli.settings import recipe_parameters
from nnunet_al.strategies import catalog
from nnunet_al.strategies.recipe import Recipe

ROUNDS = 4
"""Batches behind the first one; the model of round k is trained on k batches, so there are ROUNDS + 1 models."""
SEEDS = (0, 1, 2, 3)
RESULTS = Path(__file__).parent / "results" / "evidence"

ITERATIONS = 50
FIRST, FINE_TUNED, FULL = 400, 200, 1200
"""Training steps of round 1, of each later round, and on the whole pool (as many as a campaign has in all)."""
LONGER = 3
"""`--converged` trains so many times as long;"""
TOLERANCE = 0.02
"""a training is long enough if its Dice is within this of the longer one's."""
ENOUGH = 0.9
"""The last round of a budget has at least this share of the Dice of the whole pool."""

STRATEGIES = (
    *("random", "random_foreground", "evenly_spaced", "entropy", "bald", "stochastic_batches", "selective", "badge"),
    *("usimf", "clasp_pe"),
)
PART_TWO = (
    *("usimf,heads=full", "usimf,heads=trained", "usimf,eta=0", "usimc", "core_set", "mean_std", "learning_loss"),
    *("margin", "least_confidence", "margin+selective", "least_confidence+selective", "bald+selective"),
    "bald+stochastic_batches",
)
"""On the Hippocampus, with two seeds, beside those of the main part. `usimf` itself is the third form of the heads;
`margin`, `least_confidence` and `bald` are what `selective` and `stochastic_batches` claim to improve."""
BASELINE = "random_foreground"
CHOSEN_ON: dict[str, tuple[tuple[str, int], ...]] = {}
"""Compositions of our own -> the sets and seeds on which they were chosen, and so are not tested."""


@dataclass(frozen=True)
class Protocol:
    """What differs between the sets.

    Attributes
    ----------
    name : in commands and tables
    dataset : folder of the raw data
    unit, budget : what is asked for, and how many a round; round 0 asks for as many
    batch_size : patches of a training step, about 72 000 pixels
    candidates : regions that a round scores, where the pool is large
    group_by : column of ``participants.tsv`` with the group of each case
    cases : use the first so many, of which every ``test_every``-th is tested on; None: all
    test_every : 0: the splits that lie beside the data
    iterations, per_epoch : training steps of round 1, of later rounds, and on the whole pool; of an epoch
    regions, passes : of the pool, and dropout samples, in the record for later use
    rounds : batches behind the first one
    """

    name: str
    dataset: str
    unit: str
    budget: int
    batch_size: int
    candidates: int | None = None
    group_by: str | None = None
    cases: int | None = None
    test_every: int = 0
    iterations: tuple[int, int, int] = (FIRST, FINE_TUNED, FULL)
    per_epoch: int = ITERATIONS
    regions: int = 500
    passes: int = 5
    rounds: int = ROUNDS

    def settings(self) -> dict[str, Any]:
        """Return the settings of a campaign by the names of `nnunet_al.settings`."""
        first, later, _ = self.iterations
        return {
            **{"unit": self.unit, "budget": self.budget, "initial": self.budget, "rounds": self.rounds},
            **{"candidates": self.candidates, "disable_tta": True, "precision": "half", "optimizer": "adamw"},
            **{"batch_size": self.batch_size, "iterations": self.per_epoch},
            **{"epochs": first // self.per_epoch, "fine_tuning_epochs": later // self.per_epoch},
        }

    def full_settings(self) -> dict[str, Any]:
        """Return the settings of a training on the whole pool."""
        same = ("disable_tta", "precision", "optimizer", "batch_size", "iterations")
        chosen = {name: value for name, value in self.settings().items() if name in same}
        return {**chosen, "epochs": self.iterations[2] // self.per_epoch, "full": True}

    def longer(self) -> Protocol:
        """Return the same with trainings that are `LONGER` times as long."""
        first, later, full = (LONGER * count for count in self.iterations)
        return replace(self, iterations=(first, later, full))


PROTOCOLS = {
    one.name: one
    for one in (
        # 200 volumes: 80 in the pool, 40 to test on
        Protocol("hippocampus", "Dataset004_Hippocampus", "slice", 20, 32, candidates=600, cases=120, test_every=3),
        # 112 volumes of 56 patients in the pool, 28 of 14 to test on
        Protocol("acdc", "Dataset027_ACDCsmall", "slice", 16, 8, candidates=400, group_by="group"),
        # 160 images in the pool, 40 to test on
        Protocol("wbc", "Dataset120_WBC", "case", 4, 4, group_by="cell", test_every=5),
    )
}
QUICK = Protocol(
    "quick", "Dataset998_BenchmarkPhantom", "slice", 4, 4, candidates=30, cases=8, test_every=4, group_by="group",
    iterations=(4, 2, 4), per_epoch=2, regions=12, passes=2, rounds=2,
)  # fmt: skip
QUICK_STRATEGIES = ("random", "evenly_spaced", "usimf,embedding_size=50")


def spelled(strategy: str) -> tuple[str, dict[str, Any]]:
    """Split a strategy such as ``usimf,eta=0`` into its spelling and its parameters."""
    spelling, *settings = strategy.split(",")
    return spelling, recipe_parameters(settings)


def recipe_of(strategy: str) -> Recipe:
    """Return the recipe of a strategy with parameters.

    Raises StrategyError if there is none.
    """
    spelling, parameters = spelled(strategy)
    return catalog.with_parameters(catalog.get(spelling), **parameters)


def tag_of(strategy: str) -> str | None:
    """Return the tag that keeps campaigns apart which differ in a parameter; None without parameters."""
    _, *settings = strategy.split(",")
    return re.sub(r"[^A-Za-z0-9.]+", "-", "_".join(settings)) if settings else None


def make_parser(description: str | None) -> ArgumentParser:
    """Return the parser of the benchmark."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("-sets", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS), metavar="SET", help=", ".join(PROTOCOLS))
    add("-seeds", nargs="+", type=int, metavar="SEED", help="default: 0 1 2 3; with --part_two 0 1; with --quick 0")
    add("-s", nargs="+", metavar="STRATEGY", help="default: those of the main part; `usimf,eta=0` sets a parameter")
    add("-data", metavar="FOLDER", help="folder of the datasets (default: NNUNET_AL_TEST_DATA)")
    add("-o", default="benchmark_results/evidence", metavar="FOLDER", help="folder for campaigns")
    add("-results", metavar="FOLDER", help=f"folder for cells and records (default: {RESULTS.name} beside the others)")
    add("-budgets", nargs="+", type=int, default=[8, 16, 32], help="of --pilot")
    add("--part_two", action="store_true", help="the strategies of the second part, on the Hippocampus")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--full", action="store_true", help="train on the whole pool: the reference of each set")
    what.add_argument("--pilot", action="store_true", help="random draws with several budgets, to choose one")
    what.add_argument("--converged", action="store_true", help="train three times as long: is it long enough?")
    what.add_argument("--report", action="store_true", help="tables and figures from the cells, without any campaign")
    add("--quick", action="store_true", help="on a few phantoms, as a check that it runs")
    return parser
