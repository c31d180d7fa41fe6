"""Stage `labels`: the composed label of each annotated case, and the round's splits."""

from __future__ import annotations

from nnunet_al.errors import CampaignError
from nnunet_al.nnunet.round_view import write_round_view
from nnunet_al.nnunet.splits import member_splits, training_split
from nnunet_al.rounds.composed import compose_all
from nnunet_al.rounds.context import RoundContext


def compose_labels(context: RoundContext) -> None:
    """Write the composed label of each annotated case, and the round's splits.

    Those that no new commit touches are taken over from the round before.

    Raises CampaignError if nothing is annotated, because all of the first batch was withdrawn or given back.
    """
    if not context.annotated_now:
        way_out = "another campaign with -tag" + (" and more of -initial" if context.decided.labels_are_oracle else "")
        raise CampaignError(
            f"Nothing of the pool of {context.folder.root} is annotated, so that there is nothing to train on: start "
            f"{way_out}."
        )
    context.mark_ledger()
    compose_all(context)
    labels = {case: context.composed_label(case) for case in context.annotated_cases}
    write_round_view(
        context.round.view,
        context.data.dataset,
        labels,
        fold=context.decided.fold,
        split=training_split(context.annotated_cases),
        member_splits=member_splits(context.annotated_cases, len(context.member_folds)),
    )
