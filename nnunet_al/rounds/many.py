"""Many campaigns in one call: round by round, so that all have done the same rounds whenever the call is stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nnunet_al.campaign.decisions import Options
from nnunet_al.campaign.outlook import CampaignState, outlook, progress_table
from nnunet_al.campaign.planned import Planned, as_it_began
from nnunet_al.errors import CampaignLockedError, NnunetALError, WaitingForReaders
from nnunet_al.nnunet.environment import Roots
from nnunet_al.rounds.round import do_round
from nnunet_al.stopping import stop_if_interrupted
from nnunet_al.terminal import say
from nnunet_al.text import count


@dataclass
class Stopped:
    """Why campaigns did not reach their last round: title -> sentence; other processes work on the ``busy`` ones."""

    refused: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    busy: dict[str, str] = field(default_factory=dict)

    @property
    def reasons(self) -> dict[str, str]:
        """A few words on each of them for the table."""
        found = {**dict.fromkeys(self.refused, "refused"), **dict.fromkeys(self.waiting, "waiting for annotations")}
        return {**dict.fromkeys(self.busy, "another process works on it"), **found}

    def sentences(self) -> list[str]:
        """Return each refusal, and who else works on a campaign, once, with the campaigns that it concerns."""
        titles: dict[str, list[str]] = {}
        for title, sentence in {**self.busy, **self.refused}.items():
            titles.setdefault(sentence, []).append(title)
        return [f"{', '.join(concerned)}: {sentence}" for sentence, concerned in titles.items()]


def do_campaigns(roots: Roots, planned: Sequence[Planned], options: Options) -> Stopped:
    """Bring campaigns to their last rounds; all do round k before one does round k + 1.

    Finished work is seen from the stages' markers. A campaign that is refused, or whose dataset lacks labels,
    stays behind, and the others go on.
    """
    stopped = Stopped()
    planned = [_as_it_began(campaign, stopped) for campaign in planned]
    states = {campaign.title: _state_of(campaign, stopped) for campaign in planned}
    _show(states, stopped)
    worked = False
    for number in range(max((campaign.rounds for campaign in planned), default=-1) + 1):
        for campaign in planned:
            title = campaign.title
            if title in stopped.busy:  # another process may have done it meanwhile
                states[title] = _state_of(campaign, stopped)
                del stopped.busy[title]
            if title in stopped.reasons or number not in states[title].missing:
                continue
            try:
                for missing in range(states[title].last + 1, number + 1):
                    do_round(roots, campaign.request, options, missing)
            except CampaignLockedError as error:
                stopped.busy[title] = str(error)
            except WaitingForReaders as waiting:
                stopped.waiting[title] = str(waiting)
            except NnunetALError as error:
                stop_if_interrupted()  # which may be what it failed of
                stopped.refused[title] = str(error)
            states[title], worked = _state_of(campaign, stopped), True
            say(f"{_news(states[title], stopped)} {outlook(_going_on(states, stopped))}")
            if options.verbose:
                say(progress_table(states.values(), stopped.reasons))
    for campaign in planned:
        if campaign.title in stopped.busy:
            states[campaign.title] = _state_of(campaign, stopped)
            if states[campaign.title].is_done:
                del stopped.busy[campaign.title]
    if worked:
        _show(states, stopped)
    return stopped


def _state_of(campaign: Planned, stopped: Stopped) -> CampaignState:
    """Read how far a campaign is; one whose files cannot be read is refused."""
    try:
        return campaign.state()
    except NnunetALError as error:
        sentence = str(error)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sentence = f"a file of {campaign.folder.root} cannot be read ({error}): restore it from a backup."
    stopped.refused.setdefault(campaign.title, sentence)
    return CampaignState(campaign.title, campaign.strategy, campaign.rounds)


def _as_it_began(campaign: Planned, stopped: Stopped) -> Planned:
    """Take the number of rounds from a campaign that exists; one that was started otherwise is refused."""
    try:
        return as_it_began(campaign)
    except NnunetALError as error:
        stopped.refused[campaign.title] = str(error)
        return campaign


def _show(states: Mapping[str, CampaignState], stopped: Stopped) -> None:
    say(progress_table(states.values(), stopped.reasons))
    left = outlook(_going_on(states, stopped))
    behind = len(stopped.reasons)
    say(f"{count(behind, 'campaign')} cannot go on. {left}" if behind else left)


def _going_on(states: Mapping[str, CampaignState], stopped: Stopped) -> list[CampaignState]:
    """Return the states, where those that stopped have nothing more to do but still tell how long rounds take."""
    return [replace(state, rounds=state.last) if title in stopped.reasons else state for title, state in states.items()]


def _news(state: CampaignState, stopped: Stopped) -> str:
    title = state.title
    if title in stopped.refused:
        return f"{title} is refused: {stopped.refused[title]}"
    if title in stopped.waiting:
        return stopped.waiting[title]
    if title in stopped.busy:
        return f"{title} is looked at again later: {stopped.busy[title]}"
    dice = "" if state.dice is None else f", Dice {state.dice:.4f}"
    return f"{title}: round {state.last} of {state.rounds} is done{dice}."
