"""Which round comes next, and what is left to do when one is complete."""

from __future__ import annotations

from collections.abc import Callable

from nnunet_al.campaign.context import RoundContext
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder, RoundFolder
from nnunet_al.campaign.pool_state import is_used_up
from nnunet_al.campaign.round_stages import ANNOTATE
from nnunet_al.campaign.stages import is_done, run_stages
from nnunet_al.campaign.status import FINAL_STAGE, HAND_OUT_STAGE
from nnunet_al.campaign.wishes import Wishes
from nnunet_al.errors import CampaignError
from nnunet_al.progress import say


def continued(folder: CampaignFolder, wishes: Wishes) -> Decisions | None:
    """Return what a campaign has decided, None before it has begun.

    Raises
    ------
    CampaignError
        if it was started otherwise than wished.
    """
    if not folder.decisions.is_file():
        return None
    decided = Decisions.load(folder.decisions)
    wishes.compare(decided, folder.root)
    return decided


def complete_rounds(folder: CampaignFolder) -> list[RoundFolder]:
    """Return the rounds whose last stage is done, in order."""
    return [round_ for round_ in folder.rounds() if is_done(round_.stages, FINAL_STAGE)]


def choose_round(folder: CampaignFolder, number: int | None) -> int | None:
    """Return the round to do, or None when there is nothing left to do, which is said.

    Raises
    ------
    CampaignError
        if ``number`` is none, or others come before it.
    """
    complete = complete_rounds(folder)
    upcoming = len(complete)
    if number is not None and number < 0:
        raise CampaignError(f"-round {number}: rounds are counted from 0.")
    if number is not None and number < upcoming:
        say(f"Round {number} of {folder.root} is done already.")
        return None
    if is_used_up(folder, complete):
        say(f"The pool of {folder.root} is used up: nothing is left to annotate.")
        return None
    if number is not None and number > upcoming:
        raise CampaignError(f"-round {number}: round {upcoming} of {folder.root} comes first.")
    return upcoming


def finish_handed_out(folder: CampaignFolder, number: int | None, context_of: Callable[[int], RoundContext]) -> None:
    """Complete the last round if it only waits for its readers and the one behind it is wanted.

    Raises
    ------
    WaitingForReaders
        if they are not done yet.
    """
    last = len(complete_rounds(folder))
    markers = folder.round(last).stages
    if number in {None, last + 1} and is_done(markers, HAND_OUT_STAGE):
        context = context_of(last)
        run_stages([ANNOTATE], context, markers)
        finish_round(context)


def finish_round(context: RoundContext) -> None:
    """Remove the checkpoints that nobody wants to keep, and say that the round is done."""
    decided, number = context.decided, context.number
    parameters = decided.recipe.parameters
    fine_tuned = 0 if decided.from_scratch else 1
    in_ensemble = parameters["members"] - 1 if parameters.get("ensemble_of") == "rounds" else 0
    kept = max({"all": number, "last": 1, "none": 0}[context.options.keep], fine_tuned, in_ensemble)
    for round_ in context.folder.rounds():
        if 0 < round_.number <= number - kept:
            _remove_checkpoints(context, round_)
    say(f"Round {number} is done.")


def _remove_checkpoints(context: RoundContext, round_: RoundFolder) -> None:
    for fold in (context.decided.fold, *context.member_folds):
        for checkpoint in context.checkpoint(round_, fold).parent.glob("checkpoint_*.pth"):
            checkpoint.unlink(missing_ok=True)
