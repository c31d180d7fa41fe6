"""The ledger while files are collected: one process appends at a time, and known commits are not read again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nnunet_al.campaign.commits import Commit
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.ledger import CaseAnnotation, Ledger
from nnunet_al.campaign.lock import PATIENCE_SECONDS, campaign_lock
from nnunet_al.pool.boxes import Region
from nnunet_al.rounds.context import RoundContext


class OpenLedger:
    """A ledger and its commits at the time of the last lock."""

    def __init__(self, ledger: Ledger, lock: Path) -> None:
        """Open ``ledger``, to which a process may append only while it holds ``lock``."""
        self._ledger = ledger
        self._lock = lock
        self.commits: list[Commit] = ledger.commits()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the ledger for the block, and read commits that other processes have appended.

        Raises CampaignLockedError if another process has held the lock for minutes.
        """
        with campaign_lock(self._lock, PATIENCE_SECONDS):
            if self._ledger.length() != len(self.commits):
                self.commits = self._ledger.commits()
            yield

    def append(
        self,
        round_number: int,
        source: str,
        reader: str,
        regions: tuple[Region, ...],
        annotations: Mapping[str, CaseAnnotation],
        disagreements: tuple[str, ...] = (),
        minutes: float | None = None,
    ) -> None:
        """Append a commit with the present time while the ledger is locked; see `Ledger.append`."""
        collected = datetime.now().astimezone().isoformat(timespec="seconds")
        commit = self._ledger.append(
            round_number, source, reader, regions, annotations, disagreements, minutes, collected
        )
        self.commits = [*self.commits, commit]

    @property
    def answered(self) -> set[Region]:
        """The regions of all commits on which models are trained."""
        return {region for commit in self.commits if commit.counts for region in commit.regions}

    def labels(self, case: str, shape: tuple[int, ...]) -> np.ndarray:
        """Compose the labels (z, y, x) of a case from all commits."""
        return self._ledger.labels(case, shape, self.commits)

    def volume(self, commit: Commit, case: str) -> np.ndarray:
        """Return the labels (z, y, x) of a case in one commit."""
        return self._ledger.volume(commit, case)


@contextmanager
def open_ledger(context: RoundContext, dry_run: bool) -> Iterator[OpenLedger]:
    """Open a campaign's ledger, or for a dry run a temporary copy of it."""
    folder: CampaignFolder = context.folder
    if not dry_run:
        yield OpenLedger(context.ledger, folder.ledger_lock)
        return
    with TemporaryDirectory() as temporary:
        copy = Path(temporary) / "ledger"
        copy.mkdir()
        for commit in context.ledger.commits():
            name = f"{commit.number:03d}"
            shutil.copyfile(folder.ledger / f"{name}.json", copy / f"{name}.json")
            for case in commit.labels:
                file = Path(name) / f"{case}{context.data.dataset.file_ending}"
                (copy / file).parent.mkdir(exist_ok=True)
                (copy / file).symlink_to((folder.ledger / file).absolute())
        ledger = Ledger(copy, context.label_format, context.data.dataset.file_ending, context.ignore)
        yield OpenLedger(ledger, Path(temporary) / "lock")
