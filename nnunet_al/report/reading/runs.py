"""What is on disk of campaigns, and cheap to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_al.campaign.commits import Commit, read_commits
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.errors import CampaignError, NnunetALError
from nnunet_al.report.reading.rounds import BROKEN, Fairness, GroupResult, RoundResult, read_round

__all__ = ["Fairness", "GroupResult", "RoundResult", "Run", "read_runs"]


@dataclass(frozen=True)
class Run:
    """One campaign: where it is, what was decided, its rounds in order, and sentences on what could not be read.

    ``commits`` are the entries of its ledger.
    """

    folder: CampaignFolder
    decided: Decisions
    rounds: tuple[RoundResult, ...]
    remarks: tuple[str, ...] = ()
    commits: tuple[Commit, ...] = ()

    @property
    def strategy(self) -> str:
        """Name of the recipe."""
        return self.decided.recipe.name

    @property
    def name(self) -> str:
        """What sets the campaign apart, for people: dataset, configuration, strategy, fold, seed and tag."""
        decided = self.decided
        tag = f", tag {decided.tag}" if decided.tag else ""
        model = f"{decided.dataset}, {decided.configuration}, {self.strategy}"
        return f"{model}, fold {decided.fold}, seed {decided.seed}{tag}"

    @property
    def evaluated(self) -> tuple[RoundResult, ...]:
        """The rounds of which there is a Dice coefficient."""
        return tuple(result for result in self.rounds if result.dice is not None)


def read_runs(folders: Sequence[CampaignFolder], left_out: list[str] | None = None) -> list[Run]:
    """Read campaigns, in their order; nothing that is broken or half-written stops the others.

    Parameters
    ----------
    folders
        campaigns
    left_out
        takes a sentence for each campaign whose ``campaign.json`` cannot be read, and which is therefore missing
    """
    runs = []
    for folder in folders:
        try:
            runs.append(_read_run(folder))
        except (NnunetALError, *BROKEN) as error:
            if left_out is not None:
                why = str(error) if isinstance(error, NnunetALError) else f"{folder.decisions} cannot be read."
                left_out.append(f"The campaign in {folder.root} is left out: {why}")
    return runs


def _read_run(folder: CampaignFolder) -> Run:
    decided = Decisions.load(folder.decisions)
    remarks: list[str] = []
    commits = _commits(folder, remarks)
    rounds = tuple(read_round(round_, commits, decided, remarks) for round_ in folder.rounds())
    return Run(folder, decided, rounds, tuple(remarks), tuple(commits))


def _commits(folder: CampaignFolder, remarks: list[str]) -> list[Commit]:
    try:
        # its entries alone are read, no label volume, so that it need not know their format
        return read_commits(folder.ledger)
    except CampaignError as error:
        remarks.append(str(error))
        return []
