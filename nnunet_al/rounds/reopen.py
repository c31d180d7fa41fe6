"""Open a campaign that was started, to look at it or to take something out of it."""

from __future__ import annotations

from nnunet_al.campaign.data import read_data
from nnunet_al.campaign.decisions import Decisions, Options
from nnunet_al.campaign.folders import CampaignFolder
from nnunet_al.errors import CampaignError
from nnunet_al.nnunet.environment import Roots
from nnunet_al.rounds.context import RoundContext


def open_round(folder: CampaignFolder, roots: Roots, number: int, options: Options) -> RoundContext:
    """Return the context of a round that was begun.

    Raises CampaignError if there is no such round.
    """
    begun = [round_.number for round_ in folder.rounds()]
    if number not in begun:
        raise CampaignError(
            f"-round {number}: {folder.root} has the rounds {', '.join(map(str, begun)) or 'none yet'}."
        )
    decided = Decisions.load(folder.decisions)
    data = read_data(roots, decided.dataset, decided.test, options.workers, decided.cases)
    return RoundContext(folder, number, decided, roots, data, options)
