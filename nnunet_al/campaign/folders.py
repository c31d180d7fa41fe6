"""Where everything of a campaign lies on disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.nnunet.environment import Roots

_ROUND = re.compile(r"round_(\d{3,})")


@dataclass(frozen=True)
class RoundFolder:
    """One round: a view of nnU-Net's three roots, the stages' markers and their files."""

    root: Path
    number: int

    @property
    def view(self) -> Roots:
        """The roots with which stock nnU-Net works on this round."""
        return Roots(self.root / "nnUNet_raw", self.root / "nnUNet_preprocessed", self.root / "nnUNet_results")

    @property
    def stages(self) -> Path:
        """Markers of finished stages."""
        return self.root / "stages"

    @property
    def logs(self) -> Path:
        """The output of nnU-Net."""
        return self.root / "logs"

    @property
    def parts(self) -> Path:
        """The results of the shards of passes over the pool; removed when the round is done."""
        return self.root / "parts"

    @property
    def metrics(self) -> Path:
        """Dice and HD95 of the test cases."""
        return self.root / "metrics.json"

    @property
    def scores(self) -> Path:
        """Scores of the regions that were candidates."""
        return self.root / "scores.npz"

    @property
    def group_weights(self) -> Path:
        """The factor for the scores of each group of cases, and the Dice coefficients behind it."""
        return self.root / "group_weights.json"

    @property
    def query(self) -> Path:
        """The query set with its multiplicities."""
        return self.root / "query.npz"

    @property
    def fisher(self) -> Path:
        """The sampled parameters and their Fisher information."""
        return self.root / "fisher.npz"

    @property
    def embeddings(self) -> Path:
        """Gradient embeddings, float32, candidates x dimensions; removed when the round is done."""
        return self.root / "embeddings.npy"

    @property
    def batch(self) -> Path:
        """The regions asked for."""
        return self.root / "batch.json"

    @property
    def hand_out(self) -> Path:
        """The folder that readers get, with the regions asked for."""
        return self.root / "batch"

    @property
    def ledger_mark(self) -> Path:
        """How many of the ledger's entries the round's model is trained on."""
        return self.root / "ledger_entries.json"


@dataclass(frozen=True)
class CampaignFolder:
    """One campaign: ``<nnUNet_results>/<dataset>/al/<configuration>__<strategy>__seed<k>[__<tag>]/fold_<f>``."""

    root: Path

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
    def decisions(self) -> Path:
        """The decisions of the start; written last, so that a campaign has them or does not exist."""
        return self.root / "campaign.json"

    @property
    def ledger(self) -> Path:
        """The commits and their label volumes."""
        return self.root / "ledger"

    @property
    def lock(self) -> Path:
        """The lock of the process that works on the campaign."""
        return self.root / "lock"

    @property
    def ledger_lock(self) -> Path:
        """The lock of the process that appends to the ledger."""
        return self.root / "lock_ledger"

    @property
    def results(self) -> Path:
        """The table of all rounds' metrics."""
        return self.root / "results.csv"

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
