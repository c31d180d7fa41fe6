"""How far a campaign is, from the markers of its stages alone."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from nnunet_al.campaign.commits import read_commits, unanswered_regions
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.pool_state import added_after
from nnunet_al.campaign.stages import (
    EMBED,
    FINAL_STAGE,
    FISHER,
    HAND_OUT_STAGE,
    MERGE,
    PREPARE,
    ROUND,
    SCORE,
    SELECT,
    START,
    done_shards,
)
from nnunet_al.errors import CampaignError
from nnunet_al.files import read_json

_PREPARATION = ("labels", "fingerprint", "plan", "preprocess", "images")


class CampaignProgress:
    """How far a campaign is; each file is looked at once, so ask a new one for news."""

    def __init__(self, root: Path) -> None:
        """Look at the campaign in the folder ``root``, which need not exist."""
        self._folder = CampaignFolder(root)
        self._markers: dict[int, frozenset[str]] = {}

    @cached_property
    def decided(self) -> Decisions | None:
        """What it has decided; None before it exists.

        Raises
        ------
        CampaignError
            if the file cannot be read.
        """
        return Decisions.load(self._folder.decisions) if self._folder.decisions.is_file() else None

    @cached_property
    def complete(self) -> int:
        """The number of complete rounds, round 0 among them."""
        return sum(FINAL_STAGE in self._of_round(round_.number) for round_ in self._folder.rounds())

    @cached_property
    def used_up(self) -> bool:
        """Whether the last complete round found nothing to ask for, and no cases came to the pool since."""
        if self.complete < 2 or self.decided is None:
            return False
        file = self._folder.round(self.complete - 1).batch
        try:
            asks_for_something = bool(read_json(file)["regions"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CampaignError(f"{file} cannot be read: restore it from a backup.") from error
        if asks_for_something:
            return False

        return not added_after(self.decided, self.complete - 1)

    @cached_property
    def handed_out(self) -> int:
        """The number of rounds whose batch was handed out to people, or is annotated."""
        number = self.complete
        return number + 1 if HAND_OUT_STAGE in self._of_round(number) else number

    @cached_property
    def awaited_regions(self) -> int:
        """How many regions readers have not annotated yet of the last batch that they got."""
        if self.handed_out == self.complete or self.decided is None:
            return 0
        pool = set(self.decided.pool_cases)
        missing = unanswered_regions(self._folder.round(self.complete), read_commits(self._folder.ledger))
        return sum(region.case in pool for region in missing)

    @property
    def waits_for_readers(self) -> bool:
        """Whether readers have not annotated all of the last batch that they got."""
        return self.awaited_regions > 0

    def done_parts(self, phase: str, number: int, parts: int = 1) -> frozenset[int]:
        """Return the parts of a phase of a round that are done; ``phase`` may be "start" or "round", too."""
        everything = frozenset(range(parts))
        if self.decided is None:
            return frozenset()
        markers = self._of_round(number)
        if FINAL_STAGE in markers or (self.used_up and number >= self.complete):
            return everything
        if phase in (START, ROUND, SELECT):
            handed_out = self.decided.annotate and HAND_OUT_STAGE in markers
            return everything if handed_out else frozenset()
        if phase in (SCORE, EMBED):
            return everything if phase in markers else _done_shards(markers, phase, parts)
        return everything if self._stages_of(phase) <= markers else frozenset()

    def _stages_of(self, phase: str) -> set[str]:
        """Return the stages of a phase that is no array."""
        assert self.decided is not None
        if phase == PREPARE:
            return set(_PREPARATION)
        if phase in (MERGE, FISHER):
            return {"score", "weigh", "fisher"} & set(self.decided.recipe.phases())
        return {phase}

    def _of_round(self, number: int) -> frozenset[str]:
        if number not in self._markers:
            stages = self._folder.round(number).stages
            self._markers[number] = frozenset(path.stem for path in stages.glob("[!.]*.json"))
        return self._markers[number]


def _done_shards(markers: frozenset[str], phase: str, parts: int) -> frozenset[int]:
    """Return the shards that are done: all of them, too, if a pass over the pool was complete in other shards."""
    found = done_shards(markers, phase)
    if any(len(shards) == number for number, shards in found.items()):
        return frozenset(range(parts))
    return frozenset(found.get(parts, ()))
