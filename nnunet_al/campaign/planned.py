"""Campaigns that are to be brought to their last round, each named once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.campaign.outlook import CampaignState, state_of
from nnunet_al.campaign.request import Request
from nnunet_al.nnunet.environment import Roots


@dataclass(frozen=True)
class Planned:
    """A campaign that is to be brought to its last round.

    Attributes
    ----------
    title : its folder's name below those of the dataset's campaigns, with the dataset's where there are several
    strategy : the one name of its strategy
    rounds : number of its last round
    """

    title: str
    strategy: str
    request: Request
    folder: CampaignFolder
    rounds: int

    def state(self) -> CampaignState:
        """Read how far it is."""
        return state_of(self.folder, self.title, self.strategy, self.rounds)


def plan_campaigns(roots: Roots, requests: Iterable[Request]) -> list[Planned]:
    """Check all requests, and name each campaign once, however its strategy is spelled.

    Raises NnunetALError if a request cannot be fulfilled or a strategy does not exist; nothing was begun then.
    """
    planned: dict[CampaignFolder, Planned] = {}
    requests = list(requests)
    several = len({request.dataset for request in requests}) > 1
    for request in requests:
        request.check()
        decided = request.decide()
        name = decided.recipe.name
        folder = CampaignFolder.decided_by(roots, decided)
        title = f"{decided.dataset}/{folder.name}" if several else folder.name
        planned.setdefault(folder, Planned(title, name, request, folder, decided.rounds))
    return list(planned.values())


def as_it_began(campaign: Planned) -> Planned:
    """Take the number of rounds from a campaign that exists, unless more are asked for.

    Raises NnunetALError if it was started otherwise, or its files cannot be read.
    """
    if not campaign.folder.decisions.is_file():
        return campaign
    decided = campaign.request.continued(Decisions.load(campaign.folder.decisions), campaign.folder.root)
    return replace(campaign, rounds=decided.rounds)
