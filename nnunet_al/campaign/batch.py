"""The regions that a round asks for, and which of them nobody has annotated yet."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_al.campaign.folders import RoundFolder
from nnunet_al.campaign.ledger import CLOSED, Commit
from nnunet_al.files import read_json
from nnunet_al.pool.boxes import Region, as_box


def asked_regions(round_: RoundFolder) -> list[Region]:
    """Return the regions that a round's batch asks for, by rank."""
    return [Region(entry["case"], as_box(entry["box"])) for entry in read_json(round_.batch)["regions"]]


def unanswered_regions(round_: RoundFolder, commits: Sequence[Commit]) -> list[Region]:
    """Return the regions of a round's batch that nobody has annotated yet; none when the batch was closed."""
    if any(commit.source == CLOSED and commit.round == round_.number for commit in commits):
        return []
    answered = {region for commit in commits if commit.counts for region in commit.regions}
    return [region for region in asked_regions(round_) if region not in answered]
