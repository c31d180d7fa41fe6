"""Where campaigns that run together stand, from their folders alone, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from nnunet_al.campaign.folders import CampaignFolder, RoundFolder
from nnunet_al.campaign.pool_state import is_used_up
from nnunet_al.campaign.results import four_digits
from nnunet_al.campaign.stages import FINAL_STAGE, is_done
from nnunet_al.files import read_json

FIRST_TRAINING = "first_training.json"
"""Lies in round 1: what its training depends on, and the campaign whose model was taken instead, if one was."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True)
class Standing:
    """How far one campaign is.

    Attributes
    ----------
    title : its folder's name below those of the dataset's campaigns
    strategy : campaigns with the same one take about as long for a round
    rounds : number of the last round that is wanted
    last : number of the last round that is complete, -1 before round 0 is
    begun : whether the round after it was begun
    used_up : whether nothing of the pool is left to ask for
    dice : mean foreground Dice of the last model that was tested, None before there is one
    seconds : of each complete round that trained a model of its own, and of round 0, what its stages took
    """

    title: str
    strategy: str
    rounds: int
    last: int = -1
    begun: bool = False
    used_up: bool = False
    dice: float | None = None
    seconds: Mapping[int, float] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.used_up or self.last >= self.rounds

    @property
    def missing(self) -> range:
        """The rounds that are left."""
        return range(0) if self.is_done else range(self.last + 1, self.rounds + 1)


def standing_of(folder: CampaignFolder, title: str, strategy: str, rounds: int) -> Standing:
    """Read how far a campaign is from its stages' markers; its images and labels are not looked at."""
    begun = folder.rounds()
    complete = [round_ for round_ in begun if is_done(round_.stages, FINAL_STAGE)]
    tested = [found for round_ in begun if (found := _dice(round_)) is not None]
    return Standing(
        title,
        strategy,
        rounds,
        last=len(complete) - 1,
        begun=len(begun) > len(complete),
        used_up=is_used_up(folder, complete),
        dice=tested[-1] if tested else None,
        seconds={round_.number: _seconds(round_) for round_ in complete if not is_taken_over(round_.root)},
    )


def is_taken_over(round_root: Path) -> bool:
    """Tell whether the model of a round was trained by another campaign."""
    return recorded_training(round_root / FIRST_TRAINING).get("taken_from") is not None


def recorded_training(record: Path) -> dict[str, Any]:
    """Return what a round wrote down of its training; nothing where that is absent or cannot be read."""
    try:
        return dict(read_json(record))
    except (OSError, ValueError, TypeError):  # absent or not ours: nothing can be said of that training
        return {}


def remaining_seconds(standings: Sequence[Standing]) -> float | None:
    """Estimate what the missing rounds take: for each the mean of its strategy's rounds so far, else of all rounds.

    Round 0, which trains nothing, and the rounds with a model are two kinds of rounds. A round whose model was taken
    over from another campaign counts for neither, so the estimate is rather too long while such rounds are to come.

    Returns
    -------
    float or None
        seconds; None while no round of a kind that is missing was done in any campaign.
    """
    total = 0.0
    for standing in standings:
        for with_model in (False, True):
            number = sum((missing > 0) == with_model for missing in standing.missing)
            if number == 0:
                continue
            alike = [other for other in standings if other.strategy == standing.strategy]
            known = _of_kind(alike, with_model) or _of_kind(standings, with_model)
            if not known:
                return None
            total += number * fmean(known)
    return total


def outlook(standings: Sequence[Standing]) -> str:
    """Return one sentence on what is left."""
    number = sum(len(standing.missing) for standing in standings)
    if number == 0:
        return "Nothing is left to do."
    left = "1 round is left" if number == 1 else f"{number} rounds are left"
    seconds = remaining_seconds(standings)
    return f"{left}; no estimate yet." if seconds is None else f"{left}, about {duration(seconds)}."


def duration(seconds: float) -> str:
    """Return seconds as people say them, to two units: "2 h 5 min"."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{round(whole / _MINUTE)} min"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def progress_table(standings: Iterable[Standing], stopped: Mapping[str, str]) -> str:
    """Format campaigns as a table; ``stopped`` says of some titles why they do not go on."""
    rows = [("campaign", "round", "Dice", "state")]
    for standing in standings:
        reached = f"{standing.last if standing.last >= 0 else '-'} of {standing.rounds}"
        state = stopped.get(standing.title) or _state(standing)
        rows.append((standing.title, reached, four_digits(standing.dice, "-"), state))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"  {title:<{widths[0]}}  {reached:>{widths[1]}}  {dice:>{widths[2]}}  {state}"
        for title, reached, dice, state in rows
    )


def _state(standing: Standing) -> str:
    if standing.used_up:
        return "done, the pool is used up"
    if standing.is_done:
        return "done"
    if standing.begun:
        return f"round {standing.last + 1} begun"
    return "not begun" if standing.last < 0 else f"round {standing.last + 1} is next"


def _of_kind(standings: Iterable[Standing], with_model: bool) -> list[float]:
    return [
        seconds for standing in standings for number, seconds in standing.seconds.items() if (number > 0) == with_model
    ]


def _seconds(round_: RoundFolder) -> float:
    """Add up what the stages took; of one that was interrupted, the call that finished it."""
    return sum(float(read_json(marker)["seconds"]) for marker in round_.stages.glob("[!.]*.json"))


def _dice(round_: RoundFolder) -> float | None:
    if not round_.metrics.is_file():
        return None
    mean: Any = read_json(round_.metrics).get("foreground_mean")
    return None if mean is None else float(mean["dice"])
