"""Stage `hand_out`: the folder from which readers annotate the batch."""

from __future__ import annotations

from nnunet_al.annotation.hand_out import write_batch_folder
from nnunet_al.annotation.manifest import Batch
from nnunet_al.annotation.monailabel import write_datastore
from nnunet_al.annotation.segments import segments_of
from nnunet_al.campaign.commits import asked_regions
from nnunet_al.files import hash_file, read_json
from nnunet_al.rounds.batch_export import handed_cases
from nnunet_al.rounds.context import RoundContext
from nnunet_al.terminal import say

WRITERS = {"folder": write_batch_folder, "monailabel": write_datastore}


def hand_out(context: RoundContext) -> None:
    """Write the batch folder, unless it is there; a batch that asks for nothing has none."""
    if context.round.hand_out.exists() or not asked_regions(context.round):
        return
    decided = context.decided
    model = context.checkpoint(context.round)
    batch = Batch(
        campaign=context.folder.name,
        dataset=decided.dataset,
        round=context.number,
        strategy=read_json(context.round.batch)["strategy"],
        seed=decided.seed,
        unit=decided.unit,
        segments=segments_of(context.data.dataset.labels),
        model=hash_file(model) if context.number else None,
        readings=decided.readings,
    )
    WRITERS[decided.hand_out](context.round.hand_out, batch, handed_cases(context))
    say(f"    the batch for the readers lies in {context.round.hand_out}")
