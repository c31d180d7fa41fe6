"""Cohorts and campaigns of the experiment on fairness: made once, run in parallel, continued after interruptions."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairness_settings import CONFIGURATION, GROUPS, OF_TRAINING, PLANNER, Settings

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.stages import FINAL_STAGE, is_done
from nnunet_al.files import read_json
from nnunet_al.nnunet.environment import Roots, nnunet_folders
from nnunet_al.strategies import catalog
from nnunet_al.synthetic.design import CohortDesign, design_json
from nnunet_al.terminal import say
from nnunet_al.text import duration

DATASETS = {"strong": (511, "CaudateStrong"), "weak": (512, "CaudateWeak"), "none": (513, "CaudateNone")}


@dataclass(frozen=True)
class Campaign:
    """One campaign, or one model of table 3, which is the first round of a campaign.

    Attributes
    ----------
    training : "active", or for table 3 the training set: "pooled", "group1" or "group2"
    initial : percent of the groups in the initial batch, "" for table 3
    counts : cases of each group in the initial batch
    last : number of the last round
    """

    strength: str
    training: str
    initial: str
    strategy: str
    seed: int
    counts: tuple[tuple[str, int], ...]
    last: int

    @property
    def name(self) -> str:
        kind = f"{self.initial} {self.strategy}" if self.training == "active" else f"table 3, {self.training}"
        return f"{self.strength} {kind}, seed {self.seed}"

    @property
    def tag(self) -> str:
        return f"ini{self.initial.replace('/', '_')}" if self.training == "active" else f"table_{self.training}"

    def folder(self, roots: Roots) -> CampaignFolder:
        dataset = dataset_of(self.strength)
        strategy = catalog.get(self.strategy).name  # mean_entropy is another name of entropy
        return CampaignFolder.of(roots, dataset, CONFIGURATION, strategy, self.seed, self.tag, 0)

    def is_done(self, roots: Roots, number: int) -> bool:
        return is_done(self.folder(roots).round(number).stages, FINAL_STAGE)

    def arguments(self, roots: Roots, settings: Settings, device: str, number: int) -> list[str]:
        """Return the arguments of ``nnUNetv2_al_round``."""
        dataset = dataset_of(self.strength)
        words: list[Any] = ["-d", dataset, "-s", self.strategy, "-c", CONFIGURATION, "-f", 0, "-seed", self.seed]
        words += ["-tag", self.tag, "-round", number, "-unit", "case", "-test", "ts", "-b", settings.step]
        words += ["-initial", sum(count for _, count in self.counts)]
        words += ["-initial_groups", *(f"{group}={count}" for group, count in self.counts if count)]
        words += ["-groups", roots.raw / dataset / "participants.tsv", "-group_by", "group"]
        words += ["-roi_classes", "left_caudate", "-pl", PLANNER, "-tr", settings.trainer, "--from_scratch"]
        for option in OF_TRAINING:
            value = getattr(settings, option)
            words += [] if value is None else [f"-{option}", value]
        return [*map(str, words), "-device", device, "-np", "1", "-keep", "last"]


def campaigns_of(settings: Settings, table: bool) -> list[Campaign]:
    """Return all campaigns, seed by seed, so that an interrupted experiment has some seeds complete."""
    found = [
        Campaign(
            strength, "active", initial, strategy, seed, _counts(**settings.initial_groups(initial)), settings.rounds
        )
        for seed, strength, initial, strategy in itertools.product(
            range(settings.seeds), settings.strengths, settings.initial, settings.strategies
        )
    ]
    n = settings.table_cases
    compositions = {"pooled": _counts(n // 2, n - n // 2), "group1": _counts(n, 0), "group2": _counts(0, n)}
    if table:
        of_table = itertools.product(range(settings.seeds), settings.strengths, compositions.items())
        for seed, strength, (training, counts) in of_table:
            found.append(Campaign(strength, training, "", "random", seed, counts, 1))
    return found


def dataset_of(strength: str) -> str:
    number, name = DATASETS[strength]
    return f"Dataset{number}_{name}"


def make_cohort(strength: str, settings: Settings, roots: Roots, workers: int) -> None:
    """Make the images of one strength; existing images must have the requested settings."""
    from nnunet_al.cli.synth import main

    folder = roots.raw / dataset_of(strength)
    if folder.is_dir():
        design = CohortDesign(
            settings.cases,
            settings.test_cases,
            strength,
            settings.shape,
            settings.spacing,
            seed=settings.cohort_seed,
            subject=settings.subject,
            appearance=settings.appearance,
            component_sign=settings.component_sign,
        )
        found = {**design_json(CohortDesign()), **read_json(folder / "cohort.json")["design"]}
        if found != design_json(design):
            raise SystemExit(f"{folder.name} holds another cohort than this experiment's: name another -o.")
        return
    number, name = DATASETS[strength]
    words: list[Any] = ["-d", number, "-name", name, "--biased", "-strength", strength, "-seed", settings.cohort_seed]
    words += ["-cases", settings.cases, "-test_cases", settings.test_cases, "-spacing", *settings.spacing]
    words += ["-shape", *settings.shape] if settings.shape else []
    words += ["-template", settings.template] if settings.template else []
    words += ["-subject", settings.subject, "-appearance", settings.appearance]
    if settings.population:
        words += ["-population", settings.population, "-component_sign", settings.component_sign]
    with nnunet_folders(roots):
        if code := main([*map(str, words), "-np", str(workers)]):
            raise SystemExit(code)


def run_campaigns(
    campaigns: Sequence[Campaign], settings: Settings, roots: Roots, logs: Path, device: str, processes: int
) -> list[str]:
    """Continue all campaigns to their end, and return a sentence for each that failed."""
    left = sum(1 for c in campaigns for number in range(1, c.last + 1) if not c.is_done(roots, number))
    everything = sum(campaign.last for campaign in campaigns)
    say(f"{left} of {everything} trainings are left, {processes} at the same time.")
    failures: list[str] = []
    started, done = time.monotonic(), 0
    waiting = iter([c for c in campaigns if not c.is_done(roots, c.last)])
    logs.mkdir(parents=True, exist_ok=True)
    variables = {"nnUNet_n_proc_DA": "0", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    with (
        nnunet_folders(roots, **variables),
        ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_begin_worker) as executor,
    ):

        def submit(campaign: Campaign, number: int) -> tuple[Future, Campaign, int]:
            log = logs / f"{dataset_of(campaign.strength)}__{campaign.folder(roots).root.parent.name}.txt"
            words = campaign.arguments(roots, settings, device, number)
            return executor.submit(do_round, words, log), campaign, number

        running = [submit(c, _next_round(c, roots)) for c in itertools.islice(waiting, processes)]
        while running:
            wait([future for future, _, _ in running], return_when=FIRST_COMPLETED)
            finished = [entry for entry in running if entry[0].done()]
            running = [entry for entry in running if not entry[0].done()]
            for future, campaign, number in finished:
                sentence = future.result()
                if sentence is not None:
                    failures.append(f"{campaign.name}: {sentence}")
                    say(failures[-1])
                elif number > 0:
                    done += 1
                    remaining = (time.monotonic() - started) / done * (left - done)
                    say(f"{done} of {left}: {campaign.name}, round {number}; about {duration(remaining)} left")
                if sentence is None and number < campaign.last:
                    running.append(submit(campaign, number + 1))
                else:
                    running += [submit(c, _next_round(c, roots)) for c in itertools.islice(waiting, 1)]
    return failures


def do_round(words: Sequence[str], log: Path) -> str | None:
    """Do one round in this process, and return the error message if it failed."""
    from nnunet_al.cli.round import main

    with log.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            if not main(words):
                return None
        except Exception:
            traceback.print_exc()
    last = log.read_text(encoding="utf-8").strip().splitlines()[-1]
    return f"{last} (all of it is in {log})"


def rounds_of(campaign: Campaign, roots: Roots) -> Iterator[dict[str, Any]]:
    """Yield the numbers of each evaluated round of a campaign."""
    for number in range(1, campaign.last + 1):
        folder = campaign.folder(roots).round(number)
        if not folder.metrics.is_file():
            return
        found = read_json(folder.metrics)["groups"]
        groups = found["by_group"]
        stages = {file.stem: read_json(file)["seconds"] for file in sorted(folder.stages.glob("*.json"))}
        yield {
            "strength": campaign.strength,
            "training": campaign.training,
            "initial": campaign.initial,
            "strategy": campaign.strategy,
            "seed": campaign.seed,
            "round": number,
            "labelled": sum(group["annotated_regions"] for group in groups.values()),
            "dice": found["overall"],
            **{f"dice_{group}": groups[group]["dice"] for group in GROUPS},
            **{name: found[name] for name in ("delta", "essp", "largest_gap", "n")},
            "share_group1": groups[GROUPS[0]]["annotated_share"],
            "intervals": found["intervals"],
            "by_group": groups,
            "weights": read_json(folder.group_weights)["by_group"] if folder.group_weights.is_file() else None,
            "seconds": stages,
        }


def _counts(group1: int, group2: int) -> tuple[tuple[str, int], ...]:
    return tuple(zip(GROUPS, (group1, group2), strict=True))


def _next_round(campaign: Campaign, roots: Roots) -> int:
    return next(number for number in itertools.count() if not campaign.is_done(roots, number))


def _begin_worker() -> None:
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit with the parent, because a worker of a killed parent would keep its campaign locked and wait forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
