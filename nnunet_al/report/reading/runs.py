"""Campaigns as they are on disk: decisions, rounds and ledger entries, without images, labels or models."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnunet_al.campaign.commits import Commit, read_commits
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.errors import CampaignError, NnunetALError
from nnunet_al.files import read_arrays
from nnunet_al.report.reading.network import network_facts
from nnunet_al.report.reading.rounds import READ_ERRORS, RoundResult, read_round


@dataclass(frozen=True)
class Run:
    """A campaign: its decisions, its rounds in order, and its network.

    ``warnings`` are sentences on unreadable files, ``commits`` the entries of its ledger, ``network`` the values of
    `network.network_facts`.
    """

    folder: CampaignFolder
    decided: Decisions
    rounds: tuple[RoundResult, ...]
    warnings: tuple[str, ...] = ()
    commits: tuple[Commit, ...] = ()
    network: Mapping[str, Any] = field(default_factory=dict)

    @property
    def strategy(self) -> str:
        """Name of the recipe."""
        return self.decided.recipe.name

    @property
    def name(self) -> str:
        """The campaign's name for people: dataset, configuration, strategy, fold, seed and tag."""
        decided = self.decided
        tag = f", tag {decided.tag}" if decided.tag else ""
        model = f"{decided.dataset}, {decided.configuration}, {self.strategy}"
        return f"{model}, fold {decided.fold}, seed {decided.seed}{tag}"

    @property
    def evaluated(self) -> tuple[RoundResult, ...]:
        """The rounds that have a Dice coefficient."""
        return tuple(result for result in self.rounds if result.dice is not None)


def read_runs(folders: Sequence[CampaignFolder], left_out: list[str] | None = None) -> list[Run]:
    """Read campaigns, in the order given; one that cannot be read does not stop the others.

    ``left_out`` gets a sentence for each campaign that is left out since its ``campaign.json`` cannot be read.
    """
    runs = []
    for folder in folders:
        try:
            runs.append(_read_run(folder))
        except (NnunetALError, *READ_ERRORS) as error:
            if left_out is not None:
                why = str(error) if isinstance(error, NnunetALError) else f"{folder.decisions} cannot be read."
                left_out.append(f"The campaign in {folder.root} is left out: {why}")
    return runs


def _read_run(folder: CampaignFolder) -> Run:
    decided = Decisions.load(folder.decisions)
    warnings: list[str] = []
    progress, commits = CampaignProgress(folder.root), _commits(folder, warnings)
    regions = _regions_of_case(folder, warnings)
    rounds = tuple(read_round(round_, progress, commits, decided, regions, warnings) for round_ in progress.rounds)
    return Run(folder, decided, rounds, tuple(warnings), tuple(commits), network_facts(folder, decided))


def _regions_of_case(folder: CampaignFolder, warnings: list[str]) -> dict[str, int]:
    """Count the regions of each case; nothing where the file is not there."""
    path = folder.root / "regions.npz"
    if not path.is_file():
        return {}
    try:
        arrays = read_arrays(path)
        return dict(zip(arrays["cases"].tolist(), np.bincount(arrays["case_N"]).tolist(), strict=True))
    except (zipfile.BadZipFile, *READ_ERRORS):
        warnings.append(f"{path.name} cannot be read, so that no share of the pool is known.")
        return {}


def _commits(folder: CampaignFolder, warnings: list[str]) -> list[Commit]:
    try:
        # reads entries, not label volumes, and so need not know the format of these
        return read_commits(folder.ledger)
    except CampaignError as error:
        warnings.append(str(error))
        return []
