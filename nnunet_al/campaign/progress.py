"""How far a campaign is, from the markers and files of its stages; images, labels and models are not looked at."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from nnunet_al.campaign.commits import awaited_regions, read_commits
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder, RoundFolder
from nnunet_al.campaign.stages import (
    FINAL_STAGE,
    HAND_OUT_STAGE,
    HANDS_OUT,
    TRAIN,
    done_shards,
    place_of,
    stages_of,
    whole_stage,
)
from nnunet_al.errors import CampaignError
from nnunet_al.files import read_json

FIRST_TRAINING = "first_training.json"
"""Lies in round 1: the inputs of its training, and the campaign whose model was taken instead, if one was."""


class CampaignProgress:
    """How far a campaign is; each file is looked at once, so ask a new one for news."""

    def __init__(self, root: Path) -> None:
        """Look at the campaign in the folder ``root``, which need not exist."""
        self._folder = CampaignFolder(root)
        self._markers: dict[int, frozenset[str]] = {}

    @cached_property
    def decided(self) -> Decisions | None:
        """Its decisions; None before it exists.

        Raises CampaignError if the file cannot be read.
        """
        return Decisions.load(self._folder.decisions) if self._folder.decisions.is_file() else None

    @cached_property
    def rounds(self) -> tuple[RoundFolder, ...]:
        """The rounds that were begun, in order."""
        return tuple(self._folder.rounds())

    def markers(self, number: int) -> frozenset[str]:
        """Return the names of a round's stages that are done."""
        if number not in self._markers:
            stages = self._folder.round(number).stages
            self._markers[number] = frozenset(path.stem for path in stages.glob("[!.]*.json"))
        return self._markers[number]

    def is_complete(self, number: int) -> bool:
        """Tell whether a round is complete: its batch was answered."""
        return FINAL_STAGE in self.markers(number)

    @cached_property
    def complete(self) -> int:
        """The number of complete rounds, round 0 among them."""
        return sum(self.is_complete(round_.number) for round_ in self.rounds)

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
        changes = self.decided.pool_changes
        return not asks_for_something and not any(c["added"] and c["round"] >= self.complete for c in changes)

    @cached_property
    def handed_out(self) -> int:
        """The number of rounds whose batch was handed out to people, or is annotated."""
        return self.complete + (HAND_OUT_STAGE in self.markers(self.complete))

    @cached_property
    def open_batch(self) -> RoundFolder | None:
        """The last round if its batch is chosen and not answered yet; such a batch changes with the pool."""
        last = self.rounds[-1] if self.rounds else None
        return last if last and last.batch.is_file() and not self.is_complete(last.number) else None

    @cached_property
    def awaited_regions(self) -> int:
        """How many regions readers have not annotated yet of the last batch that they got."""
        if self.handed_out == self.complete or self.decided is None:
            return 0
        commits = read_commits(self._folder.ledger)
        return len(awaited_regions(self._folder.round(self.complete), commits, self.decided.pool_cases))

    @property
    def waits_for_readers(self) -> bool:
        """Whether readers have not annotated all of the last batch that they got."""
        return self.awaited_regions > 0

    @cached_property
    def last_stage(self) -> str:
        """The last stage that is done, as the stages follow each other in a round: "round 3: train done"."""
        for round_ in reversed(self.rounds):
            if markers := self.markers(round_.number):
                return f"round {round_.number}: {max(markers, key=place_of)} done"
        return "begun"

    @cached_property
    def dice(self) -> float | None:
        """The mean foreground Dice of the last model that was tested; None before there is one."""
        for round_ in reversed(self.rounds):
            if round_.metrics.is_file() and (mean := read_json(round_.metrics).get("foreground_mean")) is not None:
                return float(mean["dice"])
        return None

    def seconds(self, number: int, unreadable: list[str] | None = None) -> dict[str, float]:
        """Return stage -> seconds of a round, summed over shards; no training where the model was taken over.

        A stage that was interrupted counts the seconds of the call that completed it. Stages whose marker cannot be
        read are left out and appended to ``unreadable``; without that list they are an error.
        """
        round_ = self._folder.round(number)
        seconds: dict[str, float] = {}
        for name in sorted(self.markers(number)):
            try:
                spent = float(read_json(round_.stages / f"{name}.json")["seconds"])
            except (OSError, ValueError, KeyError, TypeError):
                if unreadable is None:
                    raise
                unreadable.append(name)
                continue
            stage = whole_stage(name)
            seconds[stage] = seconds.get(stage, 0.0) + spent
        if is_taken_over(round_.root):
            seconds.pop(TRAIN, None)
        return seconds

    def shards(self, phase: str, number: int) -> int | None:
        """Return the number of shards in which a phase was done completely; None while it was not."""
        found = done_shards(self.markers(number), phase)
        return min((parts for parts, shards in found.items() if len(shards) == parts), default=None)

    def is_phase_complete(self, phase: str, number: int) -> bool:
        """Tell whether a phase of a round, with all its shards, is done, and for ``select`` its batch answered."""
        if self.is_complete(number) or self.shards(phase, number) is not None:
            return True
        return self.decided is not None and self.markers(number).issuperset(stages_of(phase, self.decided.recipe))

    def done_parts(self, phase: str, number: int, parts: int = 1) -> frozenset[int]:
        """Return the parts of a job that are done; ``phase`` may be "start" or "round", too.

        A job that hands a batch out to people is done then, though its round is complete only when they have answered.
        """
        if self.decided is None:
            return frozenset()
        done = self.is_complete(number) or (self.used_up and number >= self.complete)
        if phase in HANDS_OUT:
            done = done or (self.decided.annotate and HAND_OUT_STAGE in self.markers(number))
        elif not done and not (done := self.is_phase_complete(phase, number)):
            return frozenset(done_shards(self.markers(number), phase).get(parts, ()))
        return frozenset(range(parts)) if done else frozenset()


def is_taken_over(round_root: Path) -> bool:
    """Tell whether the model of a round was trained by another campaign."""
    return recorded_training(round_root / FIRST_TRAINING).get("taken_from") is not None


def recorded_training(record: Path) -> dict[str, Any]:
    """Return the record of a round's training; nothing where it is absent or cannot be read."""
    try:
        return dict(read_json(record))
    except (OSError, ValueError, TypeError):  # absent or not ours: nothing can be said of that training
        return {}
