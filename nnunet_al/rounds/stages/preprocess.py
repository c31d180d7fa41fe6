"""Stage `preprocess`: labels and images of the annotated cases as the network reads them."""

from __future__ import annotations

from nnunet_al.files import write_json
from nnunet_al.nnunet.round_view import preprocess_round
from nnunet_al.rounds.context import RoundContext
from nnunet_al.terminal import say

_SHOWN = 5


def preprocess(context: RoundContext) -> None:
    """Preprocess the labels of newly annotated regions, and the images that are not in the store yet."""
    decided = context.decided
    boxes: dict[str, list] = {}
    for region in sorted(context.annotated_regions):
        boxes.setdefault(region.case, []).append(region.box)
    lost = preprocess_round(
        context.round.view,
        context.data.dataset,
        {case: context.composed_label(case) for case in context.annotated_cases},
        context.data.facts,
        context.plans,
        decided.configuration,
        context.store,
        context.previous.view if context.previous else None,
        boxes,
        context.options.workers,
        context.log("preprocess"),
    )
    write_json(context.round.root / "lost_annotations.json", lost)
    for sentence in lost[:_SHOWN]:
        say(f"    {sentence}")
    if len(lost) > _SHOWN:
        say(f"    {len(lost) - _SHOWN} more such cases stand in {context.round.root / 'lost_annotations.json'}")
