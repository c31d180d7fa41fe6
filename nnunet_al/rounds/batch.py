"""The batch that a round asks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_al.files import write_json
from nnunet_al.rounds.context import RoundContext
from nnunet_al.terminal import say
from nnunet_al.text import count


def write_batch(context: RoundContext, numbers_B: np.ndarray, scores_B: Sequence[float | None]) -> None:
    """Write the regions with these numbers as the round's batch, in this order."""
    regions = [context.regions[number] for number in numbers_B]
    entries = [
        {"rank": rank, "case": region.case, "box": [list(side) for side in region.box], "score": score}
        for rank, (region, score) in enumerate(zip(regions, scores_B, strict=True), start=1)
    ]
    strategy = "initial" if context.number == 0 else context.decided.recipe.name
    write_json(context.round.batch, {"round": context.number, "strategy": strategy, "regions": entries})
    say(f"    asking for {count(len(entries), 'region')} in {count(len({region.case for region in regions}), 'case')}")
