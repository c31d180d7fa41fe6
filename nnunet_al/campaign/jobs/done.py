"""What is done of a campaign's jobs, from the markers of its stages alone."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from nnunet_al.campaign import round_phases
from nnunet_al.campaign.batch import unanswered_regions
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.jobs.needs import ROUND, START
from nnunet_al.campaign.jobs.plan import Script
from nnunet_al.campaign.ledger import read_commits
from nnunet_al.campaign.status import FINAL_STAGE, HAND_OUT_STAGE
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
        from nnunet_al.campaign.pool_state import added_after  # takes a while to load, and is rarely needed

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
        if phase in (START, ROUND, round_phases.SELECT):
            handed_out = self.decided.annotate and HAND_OUT_STAGE in markers
            return everything if handed_out else frozenset()
        if phase in (round_phases.SCORE, round_phases.EMBED):
            return everything if phase in markers else _done_shards(markers, phase, parts)
        return everything if self._stages_of(phase) <= markers else frozenset()

    def _stages_of(self, phase: str) -> set[str]:
        """Return the stages of a phase that is no array."""
        assert self.decided is not None
        if phase == round_phases.PREPARE:
            return set(_PREPARATION)
        if phase in (round_phases.MERGE, round_phases.FISHER):
            return {"score", "weigh", "fisher"} & set(self.decided.recipe.phases())
        return {phase}

    def _of_round(self, number: int) -> frozenset[str]:
        if number not in self._markers:
            stages = self._folder.round(number).stages
            self._markers[number] = frozenset(path.stem for path in stages.glob("[!.]*.json"))
        return self._markers[number]


def done_parts(script: Script, number: int | None) -> frozenset[int]:
    """Return the parts of a script's job for a round that are done.

    Raises
    ------
    CampaignError
        if a file of the campaign cannot be read.
    """
    if script.campaign is None:
        return frozenset({0}) if is_dataset_checked(script.name.partition("/")[0]) else frozenset()
    return CampaignProgress(script.campaign).done_parts(script.phase, number or 0, script.parts)


def is_dataset_checked(dataset: str) -> bool:
    """Tell whether a dataset was read and checked; what came to it since, campaigns check when they start."""
    preprocessed = os.environ.get("nnUNet_preprocessed")
    return preprocessed is not None and Path(preprocessed, dataset, "al_images", "facts.json").is_file()


def _done_shards(markers: frozenset[str], phase: str, parts: int) -> frozenset[int]:
    """Return the shards that are done: all of them, too, if a pass over the pool was complete in other shards."""
    found = round_phases.done_shards(markers, phase)
    if any(len(shards) == number for number, shards in found.items()):
        return frozenset(range(parts))
    return frozenset(found.get(parts, ()))
