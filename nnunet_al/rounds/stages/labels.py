"""Stage `labels`: the composed label of each annotated case, and the round's splits."""

from __future__ import annotations

from nnunet_al.errors import CampaignError
from nnunet_al.nnunet.blosc_files import link_or_copy
from nnunet_al.nnunet.round_view import write_round_view
from nnunet_al.nnunet.splits import member_splits, training_split
from nnunet_al.rounds.context import RoundContext
from nnunet_al.terminal import progress


def compose_labels(context: RoundContext) -> None:
    """Write the composed label of each annotated case, and the round's splits.

    A case that no new commit touches is taken over from the round before.

    Raises CampaignError if nothing is annotated, because all of the first batch was withdrawn or given back.
    """
    if not context.annotated_now:
        raise CampaignError(
            f"Nothing of the pool of {context.folder.root} is annotated, so that there is nothing to train on: start "
            "another campaign with -tag."
        )
    context.mark_ledger()
    for case in progress(context.annotated_cases, "labels"):
        target = context.composed_label(case)
        earlier = context.previous
        before = None if earlier is None else earlier.view.raw / target.relative_to(context.round.view.raw)
        if before is not None and case not in context.new_cases and before.is_file():
            link_or_copy(before, target, target.parent.parent)
            continue
        labels_xyz = context.labels_after(case, context.commits)
        context.label_format.write(target, labels_xyz, context.ledger.properties(case, context.commits))
    labels = {case: context.composed_label(case) for case in context.annotated_cases}
    write_round_view(
        context.round.view,
        context.data.dataset,
        labels,
        fold=context.decided.fold,
        split=training_split(context.annotated_cases),
        member_splits=member_splits(context.annotated_cases, len(context.member_folds)),
    )
