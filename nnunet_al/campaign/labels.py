"""Labels as nnU-Net is to see them: what the ledger holds, and ignore where it holds nothing."""

from __future__ import annotations

import numpy as np

from nnunet_al.campaign.context import RoundContext
from nnunet_al.campaign.ledger import Commit
from nnunet_al.nnunet.nonzero import nonzero_mask


def composed(context: RoundContext, case: str, commits: list[Commit]) -> np.ndarray:
    """Return the labels (z, y, x) of a case after ``commits``.

    Voxels outside nnU-Net's nonzero mask are background, as nnU-Net defines them, unless they were annotated as
    something else: ignore written there would change masked z-score normalisation.
    """
    facts = context.data.facts[case]
    labels_xyz = context.ledger.labels(case, facts.raw_shape, commits)
    outside_xyz = ~nonzero_mask(context.data.dataset.cases[case], facts.reader)
    labels_xyz[outside_xyz & (labels_xyz == context.ignore)] = 0
    return labels_xyz
