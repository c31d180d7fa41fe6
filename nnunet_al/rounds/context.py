"""Shared by the stages of a round: the campaign's decisions, its data, and where everything lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.campaign.commits import Commit
from nnunet_al.campaign.data import Data
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder, RoundFolder
from nnunet_al.campaign.ledger import Ledger
from nnunet_al.campaign.lock import PATIENCE_SECONDS, campaign_lock
from nnunet_al.errors import CampaignError
from nnunet_al.files import hash_json, read_json, write_json
from nnunet_al.nnunet.case_facts import CaseFacts
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.geometry import case_geometry
from nnunet_al.nnunet.image_store import StoredImages, ensure_images, store_folder
from nnunet_al.nnunet.label_io import LabelFormat
from nnunet_al.nnunet.raw_dataset import CaseFiles
from nnunet_al.nnunet.round_view import IGNORE_ADDED
from nnunet_al.pool.boxes import Region
from nnunet_al.pool.geometry import CaseGeometry
from nnunet_al.rounds.rebuild import campaign_regions, first_plan, read_first_plan
from nnunet_al.seeding import generator


@dataclass(eq=False)
class RoundContext:
    """Everything that the stages of one round read; nothing is read before it is needed."""

    folder: CampaignFolder
    number: int
    decided: Decisions
    roots: Roots
    data: Data
    options: Options

    def __post_init__(self) -> None:
        """Refuse a dataset whose cases or classes are not those of the campaign."""
        self._check_cases()
        self._check_labels()

    @property
    def round(self) -> RoundFolder:
        """The folder of this round."""
        return self.folder.round(self.number)

    @property
    def previous(self) -> RoundFolder | None:
        """The round before this one."""
        return self.folder.round(self.number - 1) if self.number > 0 else None

    @property
    def ignore(self) -> int:
        """Value of unannotated voxels."""
        return self.data.dataset.effective_ignore

    @property
    def store(self) -> Path:
        """Folder of the preprocessed images that all campaigns of the dataset share."""
        return store_folder(self.roots, self.decided.dataset)

    @cached_property
    def label_format(self) -> LabelFormat:
        """How label volumes are read and written."""
        dataset = self.data.dataset
        return LabelFormat(dataset.dataset_json, next(iter(dataset.cases.values())).images[0])

    @cached_property
    def ledger(self) -> Ledger:
        """The campaign's ledger."""
        return Ledger(self.folder.ledger, self.label_format, self.data.dataset.file_ending, self.ignore)

    @cached_property
    def commits(self) -> list[Commit]:
        """The commits that this round's model is trained on.

        They are counted when the round begins to compose labels, so that files that readers return while it runs are
        left to the next one. Rounds of earlier versions did not count: theirs are the commits of all rounds before.
        """
        commits, marked = self.ledger.commits(), self._entries_marked()
        if marked is not None:
            return commits[:marked]
        return [commit for commit in commits if commit.round < self.number]

    def mark_ledger(self) -> None:
        """Decide which commits this round's model is trained on: all that there are now."""
        if self._entries_marked() is not None:
            return
        with campaign_lock(self.folder.ledger_lock, PATIENCE_SECONDS):
            entries = self._entries_composed() or len(self.ledger.commits())
            write_json(self.round.ledger_mark, {"entries": entries if self.number else 0})
        self.__dict__.pop("commits", None)

    def _entries_marked(self) -> int | None:
        """Return the number of entries that was written down; None if there is none, or the file is broken."""
        try:
            return int(read_json(self.round.ledger_mark)["entries"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _entries_composed(self) -> int:
        """Return how many entries went into the round's composed labels, whose mark is gone; 0 before there are any."""
        try:
            records = dict(read_json(self.round.composed))
            return max((number + 1 for record in records.values() for number, _ in record["commits"]), default=0)
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    @cached_property
    def annotated_cases(self) -> list[str]:
        """Cases of which something is annotated before this round, without those that were withdrawn since."""
        return self.annotated_by(self.commits)

    @property
    def annotated_now(self) -> list[str]:
        """Cases of which something is annotated by now, whether or not this round is trained on it."""
        return self.annotated_by(self.ledger.commits())

    def annotated_by(self, commits: Iterable[Commit]) -> list[str]:
        """Return the cases of the pool of which ``commits`` annotate something, sorted."""
        cases = {case for commit in commits if commit.counts for case in commit.labels}
        return sorted(cases & set(self.decided.pool_cases))

    @property
    def annotated_regions(self) -> set[Region]:
        """Regions that are annotated before this round, each once."""
        pool = set(self.decided.pool_cases)
        return {r for c in self.commits if c.counts for r in c.regions if r.case in pool}

    @cached_property
    def first_plans(self) -> dict[str, Any]:
        """The plans that the campaign stands on, made from the geometry of the pool."""
        return first_plan(self.folder, self.decided, self.data)[0]

    @cached_property
    def plans(self) -> dict[str, Any]:
        """The plans of this round."""
        plans: dict[str, Any] = read_json(self.plans_file(self.round))
        return plans

    @property
    def configuration(self) -> dict[str, Any]:
        """The campaign's configuration in this round's plans."""
        configuration: dict[str, Any] = self.plans["configurations"][self.decided.configuration]
        return configuration

    @cached_property
    def regions(self) -> list[Region]:
        """All regions of the campaign; a region's index is its number."""
        return campaign_regions(self.folder, self.decided, self.data, lambda: self.first_plans, self.options.workers)

    @cached_property
    def geometries(self) -> dict[str, CaseGeometry]:
        """Of all cases of the pool, under the campaign's plans."""
        return {
            case: case_geometry(self.data.facts[case], self.first_plans, self.decided.configuration)
            for case in self.decided.pool_cases
        }

    @cached_property
    def rng(self) -> Callable[[str], np.random.Generator]:
        """From a purpose to its generator in this round."""
        return partial(generator, self.decided.seed, self.number)

    @property
    def preprocessed(self) -> Path:
        """The dataset's folder of preprocessed data in this round's view."""
        return self.round.view.preprocessed / self.decided.dataset

    def plans_file(self, round_: RoundFolder) -> Path:
        """Return the plans file of a round."""
        return round_.view.preprocessed / self.decided.dataset / f"{self.decided.plans}.json"

    def pool_images(self) -> StoredImages:
        """Return where the preprocessed images of the pool lie; those that are missing are made."""
        cases, data = self.decided.pool_cases, self.data
        return self._images({case: data.dataset.cases[case] for case in cases}, data.facts)

    def test_images(self) -> StoredImages:
        """Return where the preprocessed images of the test cases lie; those that are missing are made."""
        cases, data = self.decided.test_cases, self.data
        return self._images({case: data.tests[case] for case in cases}, data.test_facts)

    def _images(self, files: Mapping[str, CaseFiles], facts: Mapping[str, CaseFacts]) -> StoredImages:
        dataset_json = read_json(self.round.view.preprocessed / self.decided.dataset / "dataset.json")
        workers, log = self.options.workers, self.log("images")
        return ensure_images(
            files, facts, self.plans, self.decided.configuration, dataset_json, self.store, workers, log
        )

    def log(self, stage: str) -> Path:
        """Return the file for nnU-Net's output in a stage."""
        return self.round.logs / f"{stage}.txt"

    def composed_label(self, case: str) -> Path:
        """Return where the composed label of a case lies in this round's view."""
        ending = self.data.dataset.file_ending
        return self.round.view.raw / self.decided.dataset / "labelsTr" / f"{case}{ending}"

    def checkpoint(self, round_: RoundFolder, fold: int | None = None) -> Path:
        """Return the final checkpoint of a round, or of one of its `member_folds`."""
        d = self.decided
        model = round_.view.results / d.dataset / f"{d.trainer}__{d.plans}__{d.configuration}"
        return model / f"fold_{d.fold if fold is None else fold}" / "checkpoint_final.pth"

    @property
    def member_folds(self) -> list[int]:
        """nnU-Net's folds in which a round trains the members of its ensemble; they lie behind the campaign's own."""
        parameters = self.decided.recipe.parameters
        count = parameters["members"] if parameters.get("ensemble_of") == "folds" else 0
        return [self.decided.fold + 1 + member for member in range(count)]

    def _check_cases(self) -> None:
        known = {**self.data.test_facts, **self.data.facts}
        for case in (*self.decided.pool_cases, *self.decided.test_cases):
            if case not in known:
                raise CampaignError(
                    f"The case {case} of the campaign {self.folder.root} is no longer in {self.data.dataset.folder}: "
                    f"put its files back, or take it out with nnUNetv2_al_pool -withdraw {case}."
                )
            if hash_json(known[case].image_hashes) != self.decided.hashes[case]:
                raise CampaignError(
                    f"The image of {case} in {self.data.dataset.folder} is not the one that the campaign "
                    f"{self.folder.root} began with: put it back, or take the case out with nnUNetv2_al_pool -withdraw "
                    f"{case}, since what was annotated belongs to the former image."
                )

    def _check_labels(self) -> None:
        """Refuse a dataset whose classes changed: labels that are stored would get another meaning without a word."""
        found = read_first_plan(self.folder, self.decided)
        if found is None:  # it is made again when it is needed, and has to come out as it was
            return
        _, before = found
        began_with = dict(before["labels"])
        now = self.data.dataset.dataset_json["labels"]
        if before.get(IGNORE_ADDED) and "ignore" not in now:
            began_with.pop("ignore")  # declared since, it has the value that unannotated voxels have had all along
        changed = sorted(name for name in {*began_with, *now} if began_with.get(name) != now.get(name))
        if changed:
            file = self.data.dataset.folder / "dataset.json"
            raise CampaignError(
                f"The label {changed[0]} in {file} is not as it was when the campaign {self.folder.root} began: put it "
                "back, write what is annotated with nnUNetv2_al_export into a dataset of its own, change the classes "
                "there and start a campaign on that."
            )
