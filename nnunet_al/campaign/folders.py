"""Where everything of a campaign lies on disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.nnunet.environment import Roots

_ROUND = re.compile(r"round_(\d{3,})")


class _Inside:
    """The path of a file or folder with a fixed name inside the folder of a round or a campaign."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: RoundFolder | CampaignFolder, kind: type) -> Path:
        return folder.root / self._name


@dataclass(frozen=True)
class RoundFolder:
    """One round: a view of nnU-Net's three roots, the stages' markers and their files."""

    root: Path
    number: int

    stages = _Inside("stages")
    """Markers of finished stages."""
    logs = _Inside("logs")
    """The output of nnU-Net."""
    parts = _Inside("parts")
    """The results of the shards of passes over the pool; removed when the round is done."""
    metrics = _Inside("metrics.json")
    """Dice and HD95 of the test cases."""
    predictions = _Inside("predictions")
    """Predictions of some test cases, where they are kept."""
    network = _Inside("network.json")
    """The number of the network's parameters, and the device that it was trained on."""
    scores = _Inside("scores.npz")
    """Scores of the regions that were candidates."""
    group_weights = _Inside("group_weights.json")
    """The factor for the scores of each group of cases, and the Dice coefficients behind it."""
    query = _Inside("query.npz")
    """The query set with its multiplicities."""
    fisher = _Inside("fisher.npz")
    """The sampled parameters and their Fisher information."""
    embeddings = _Inside("embeddings.npy")
    """Gradient embeddings, float32, candidates x dimensions; removed when the round is done."""
    batch = _Inside("batch.json")
    """The regions asked for."""
    hand_out = _Inside("batch")
    """The folder that readers get, with the regions asked for."""
    ledger_mark = _Inside("ledger_entries.json")
    """How many of the ledger's entries the round's model is trained on."""
    composed = _Inside("composed_labels.json")
    """The commits that went into each composed label, and what later stages ask of it."""

    @property
    def view(self) -> Roots:
        """The roots with which stock nnU-Net works on this round."""
        return Roots(self.root / "nnUNet_raw", self.root / "nnUNet_preprocessed", self.root / "nnUNet_results")


@dataclass(frozen=True)
class CampaignFolder:
    """One campaign: ``<nnUNet_results>/<dataset>/al/<configuration>__<strategy>__seed<k>[__<tag>]/fold_<f>``."""

    root: Path

    decisions = _Inside("campaign.json")
    """The decisions of the start; written last, so that a campaign has them or does not exist."""
    ledger = _Inside("ledger")
    """The commits and their label volumes."""
    lock = _Inside("lock")
    """The lock of the process that works on the campaign."""
    ledger_lock = _Inside("lock_ledger")
    """The lock of the process that appends to the ledger."""
    results = _Inside("results.csv")
    """The table of all rounds' metrics."""

    @classmethod
    def of(
        cls, roots: Roots, dataset: str, configuration: str, strategy: str, seed: int, tag: str | None, fold: int
    ) -> CampaignFolder:
        """Return the folder of the campaign with these names; it need not exist."""
        name = "__".join([configuration, strategy, f"seed{seed}", *([tag] if tag else [])])
        return cls(roots.results / dataset / "al" / name / f"fold_{fold}")

    @classmethod
    def decided_by(cls, roots: Roots, decided: Decisions) -> CampaignFolder:
        """Return the folder of the campaign with these decisions; it need not exist."""
        d = decided
        return cls.of(roots, d.dataset, d.configuration, d.recipe.name, d.seed, d.tag, d.fold)

    @classmethod
    def of_dataset(cls, roots: Roots, dataset: str) -> Iterator[CampaignFolder]:
        """Yield the campaigns of a dataset that were started, in the order of their names."""
        for file in sorted((roots.results / dataset / "al").glob("*/fold_*/campaign.json")):
            yield cls(file.parent)

    @property
    def name(self) -> str:
        """The name of the campaign among those of its dataset, as manifests have it."""
        return f"{self.root.parent.name}/{self.root.name}"

    @property
    def prepared(self) -> RoundFolder:
        """The first plan, made from the geometry of the pool alone."""
        return RoundFolder(self.root / "prepared", -1)

    def round(self, number: int) -> RoundFolder:
        """Return the folder of a round; it need not exist."""
        return RoundFolder(self.root / f"round_{number:03d}", number)

    def rounds(self) -> list[RoundFolder]:
        """Return the rounds that were begun, in order."""
        numbers = sorted(
            int(match.group(1)) for path in self.root.glob("round_*") if (match := _ROUND.fullmatch(path.name))
        )
        return [self.round(number) for number in numbers]
