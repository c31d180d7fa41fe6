"""Campaigns of the benchmark: one strategy on one set with one seed, from the first batch to its cells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from evidence_cells import row_of
from evidence_data import participants
from evidence_record import record_round
from evidence_settings import Protocol, recipe_of, spelled, tag_of

from nnunet_al.campaign.data import read_data
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.request import Request
from nnunet_al.campaign.stages import EVALUATE, PREPARE, TRAIN, is_done
from nnunet_al.nnunet.environment import Roots, nnunet_folders
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.phase import do_phase
from nnunet_al.rounds.round import do_round

CONFIGURATION = "2d"
OPTIONS = Options(device="cpu", workers=1, share_first=True)  # keeps all checkpoints: a first model has to be there
"""Rounds in this process; a campaign takes over the first model of another one that trained on the same."""


@dataclass(frozen=True)
class Campaign:
    """One campaign.

    Attributes
    ----------
    kind : "" for those that are compared; others, such as "full", are kept apart by it
    """

    protocol: Protocol
    strategy: str
    seed: int
    kind: str = ""
    data: str | None = None

    @property
    def name(self) -> str:
        """Its name in file names: ``hippocampus__usimf__eta-0__seed0``."""
        parts = (self.protocol.name, self.kind, recipe_of(self.strategy).name, tag_of(self.strategy))
        return "__".join([*filter(None, parts), f"seed{self.seed}"])

    @property
    def tag(self) -> str | None:
        """The campaign's tag."""
        return "_".join(filter(None, (self.kind, tag_of(self.strategy)))) or None

    @property
    def is_full(self) -> bool:
        """Whether it trains on the whole pool at once."""
        return self.kind.startswith("full")

    @property
    def models(self) -> int:
        """How many models it trains."""
        return 1 if self.is_full else self.protocol.rounds + 1

    def request(self, roots: Roots) -> Request:
        """Return the request of the equivalent command line."""
        spelling, parameters = spelled(self.strategy)
        asked = self.protocol.full_settings() if self.is_full else self.protocol.settings()
        table = participants(self.protocol, roots, self.data)
        if table is not None:
            asked |= {"groups": str(table), "group_by": (self.protocol.group_by,)}
        names = (self.protocol.dataset, CONFIGURATION, 0, self.seed, self.tag, spelling)
        return Request(*names, parameters=parameters, **asked)

    def folder(self, roots: Roots) -> CampaignFolder:
        """Return its folder."""
        return CampaignFolder.decided_by(roots, self.request(roots).decide())


def run(campaign: Campaign, roots: Roots) -> Iterator[tuple[int, dict[str, Any]]]:
    """Bring a campaign to its end, and yield each round's number and row; what was done before is not done again.

    The last model chooses nothing. After each round its record is written, while its checkpoint is there; checkpoints
    that no later round needs are removed, except that of round 1, which other campaigns take over.
    """
    folder, request = campaign.folder(roots), campaign.request(roots)
    with benchmark_environment(roots):
        do_round(roots, request, OPTIONS, 0)
        for number in range(1, campaign.models + 1):
            if number < campaign.models:
                do_round(roots, request, OPTIONS, number)
            elif not is_done(folder.round(number).stages, EVALUATE):
                for phase in (PREPARE, TRAIN, EVALUATE):
                    do_phase(roots, request, OPTIONS, number, phase)
            record = record_file(folder, number)
            if not campaign.kind and not record.is_file():
                record_round(context_of(folder, roots, number), campaign.protocol, record)
            remove_checkpoints(folder, number)
            yield number, row_of(campaign, folder, number)
        remove_checkpoints(folder, campaign.models + 1)


def record_file(folder: CampaignFolder, number: int) -> Path:
    """Return where the record of a round lies."""
    return folder.root / "records" / f"round_{number:03d}.npz"


def context_of(folder: CampaignFolder, roots: Roots, number: int) -> RoundContext:
    """Return the context of a round."""
    decided = Decisions.load(folder.decisions)
    data = read_data(roots, decided.dataset, decided.test, OPTIONS.workers)
    return RoundContext(folder, number, decided, roots, data, OPTIONS)


def remove_checkpoints(folder: CampaignFolder, number: int) -> None:
    """Remove the checkpoints of the rounds before ``number``, except round 1."""
    for round_ in folder.rounds():
        if 1 < round_.number < number:
            for checkpoint in round_.view.results.rglob("checkpoint_*.pth"):
                checkpoint.unlink()


@contextmanager
def benchmark_environment(roots: Roots) -> Iterator[None]:
    """Set nnU-Net's folders and one thread within the block."""
    threads = torch.get_num_threads()
    with nnunet_folders(roots, nnUNet_n_proc_DA="0"):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
