"""Campaigns that run together: a table of how far they are, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.overview import progress_lines
from nnunet_al.campaign.progress import CampaignProgress, is_taken_over
from nnunet_al.text import duration


@dataclass(frozen=True)
class CampaignState:
    """How far one campaign is at one moment.

    Attributes
    ----------
    title : its folder's name below those of the dataset's campaigns
    strategy : campaigns with the same one take about as long for a round
    rounds : number of the last round that is wanted
    last : number of the last round that is complete, -1 before round 0 is
    begun : whether the round after it was begun
    used_up : whether nothing of the pool is left to ask for
    dice : mean foreground Dice of the last model that was tested, None before there is one
    seconds : duration of round 0, and of each complete round that trained its model itself
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


def state_of(folder: CampaignFolder, title: str, strategy: str, rounds: int) -> CampaignState:
    """Read how far a campaign is."""
    progress = CampaignProgress(folder.root)
    trained_here = [r.number for r in progress.rounds if progress.is_complete(r.number) and not is_taken_over(r.root)]
    return CampaignState(
        title,
        strategy,
        rounds,
        last=progress.complete - 1,
        begun=len(progress.rounds) > progress.complete,
        used_up=progress.used_up,
        dice=progress.dice,
        seconds={number: sum(progress.seconds(number).values()) for number in trained_here},
    )


def remaining_seconds(states: Sequence[CampaignState]) -> float | None:
    """Estimate the seconds of the missing rounds: for each its strategy's mean so far, else that of all rounds.

    Round 0, which trains nothing, and the rounds with a model are two kinds of rounds. A round whose model was taken
    over from another campaign counts for neither, so the estimate is rather too long while such rounds are to come.
    None while no round of a kind that is missing was done in any campaign.
    """
    total = 0.0
    for state in states:
        for with_model in (False, True):
            if number := sum((missing > 0) == with_model for missing in state.missing):
                alike = [other for other in states if other.strategy == state.strategy]
                known = _of_kind(alike, with_model) or _of_kind(states, with_model)
                if not known:
                    return None
                total += number * fmean(known)
    return total


def outlook(states: Sequence[CampaignState]) -> str:
    """Return one sentence on the rounds that are left."""
    if (number := sum(len(state.missing) for state in states)) == 0:
        return "Nothing is left to do."
    left = "1 round is left" if number == 1 else f"{number} rounds are left"
    seconds = remaining_seconds(states)
    return f"{left}; no estimate yet." if seconds is None else f"{left}, about {duration(seconds)}."


def progress_table(states: Iterable[CampaignState], stopped: Mapping[str, str]) -> str:
    """Format campaigns as a table; ``stopped`` says of some titles why they do not go on."""
    return "\n".join(
        progress_lines((s.title, s.last, s.rounds, s.dice, stopped.get(s.title) or _in_words(s)) for s in states)
    )


def _in_words(state: CampaignState) -> str:
    if state.used_up:
        return "done, the pool is used up"
    if state.is_done:
        return "done"
    if state.begun:
        return f"round {state.last + 1} begun"
    return "not begun" if state.last < 0 else f"round {state.last + 1} is next"


def _of_kind(states: Iterable[CampaignState], with_model: bool) -> list[float]:
    return [seconds for state in states for number, seconds in state.seconds.items() if (number > 0) == with_model]
