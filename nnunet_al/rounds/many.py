"""Many campaigns in one call: round by round, so that all of them are equally far whenever the call is stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nnunet_al.campaign.decisions import Options
from nnunet_al.campaign.planned import Planned, as_it_began
from nnunet_al.campaign.standing import Standing, outlook, progress_table
from nnunet_al.errors import CampaignLockedError, NnunetALError, WaitingForReaders
from nnunet_al.nnunet.environment import Roots
from nnunet_al.progress import count, say
from nnunet_al.rounds.round import do_round


@dataclass
class Stopped:
    """Why campaigns did not get to their last round: title -> sentence; ``busy`` are those that others work on."""

    refused: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    busy: dict[str, str] = field(default_factory=dict)

    @property
    def states(self) -> dict[str, str]:
        """A word on each of them for the table."""
        states = {**dict.fromkeys(self.refused, "refused"), **dict.fromkeys(self.waiting, "waiting for annotations")}
        return {**dict.fromkeys(self.busy, "another process works on it"), **states}

    def sentences(self) -> list[str]:
        """Return each refusal, and who else works on a campaign, once, with the campaigns that it concerns."""
        titles: dict[str, list[str]] = {}
        for title, sentence in {**self.busy, **self.refused}.items():
            titles.setdefault(sentence, []).append(title)
        return [f"{', '.join(concerned)}: {sentence}" for sentence, concerned in titles.items()]


def do_campaigns(roots: Roots, planned: Sequence[Planned], options: Options) -> Stopped:
    """Bring campaigns to their last rounds; all do round k before one does round k + 1.

    What is done already is seen from the stages' markers. A campaign that is refused, or whose dataset lacks labels,
    stays behind, and the others go on.
    """
    stopped = Stopped()
    planned = [_as_it_began(campaign, stopped) for campaign in planned]
    standings = {campaign.title: _standing(campaign, stopped) for campaign in planned}
    _show(standings, stopped)
    worked = False
    for number in range(max((campaign.rounds for campaign in planned), default=-1) + 1):
        for campaign in planned:
            title = campaign.title
            if title in stopped.busy:  # what another process has done meanwhile need not be done here
                standings[title] = _standing(campaign, stopped)
                del stopped.busy[title]
            if title in stopped.states or number not in standings[title].missing:
                continue
            try:
                for missing in range(standings[title].last + 1, number + 1):
                    do_round(roots, campaign.request, options, missing)
            except CampaignLockedError as error:
                stopped.busy[title] = str(error)
            except WaitingForReaders as waiting:
                stopped.waiting[title] = str(waiting)
            except NnunetALError as error:
                stopped.refused[title] = str(error)
            standings[title], worked = _standing(campaign, stopped), True
            say(f"{_news(standings[title], stopped)} {outlook(_going_on(standings, stopped))}")
            if options.verbose:
                say(progress_table(standings.values(), stopped.states))
    for campaign in planned:
        if campaign.title in stopped.busy:
            standings[campaign.title] = _standing(campaign, stopped)
            if standings[campaign.title].is_done:
                del stopped.busy[campaign.title]
    if worked:
        _show(standings, stopped)
    return stopped


def _standing(campaign: Planned, stopped: Stopped) -> Standing:
    """Read how far a campaign is; one whose files cannot be read is refused."""
    try:
        return campaign.standing()
    except (OSError, ValueError, KeyError, TypeError, NnunetALError) as error:
        sentence = f"a file of {campaign.folder.root} cannot be read ({error}): restore it from a backup."
        stopped.refused.setdefault(campaign.title, sentence)
        return Standing(campaign.title, campaign.strategy, campaign.rounds)


def _as_it_began(campaign: Planned, stopped: Stopped) -> Planned:
    """Take the number of rounds from a campaign that exists; one that was started otherwise is refused."""
    try:
        return as_it_began(campaign)
    except NnunetALError as error:
        stopped.refused[campaign.title] = str(error)
        return campaign


def _show(standings: Mapping[str, Standing], stopped: Stopped) -> None:
    say(progress_table(standings.values(), stopped.states))
    left = outlook(_going_on(standings, stopped))
    behind = len(stopped.states)
    say(f"{count(behind, 'campaign')} cannot go on. {left}" if behind else left)


def _going_on(standings: Mapping[str, Standing], stopped: Stopped) -> list[Standing]:
    """Return the standings, where those that stopped have nothing more to do but still tell how long rounds take."""
    return [
        replace(standing, rounds=standing.last) if title in stopped.states else standing
        for title, standing in standings.items()
    ]


def _news(standing: Standing, stopped: Stopped) -> str:
    title = standing.title
    if title in stopped.refused:
        return f"{title} is refused: {stopped.refused[title]}"
    if title in stopped.waiting:
        return stopped.waiting[title]
    if title in stopped.busy:
        return f"{title} is looked at again later: {stopped.busy[title]}"
    dice = "" if standing.dice is None else f", Dice {standing.dice:.4f}"
    return f"{title}: round {standing.last} of {standing.rounds} is done{dice}."
