"""Which parts of a job are done."""

from __future__ import annotations

import os
from pathlib import Path

from nnunet_al.campaign.progress import CampaignProgress
from nnunet_al.jobs.plan import Script


def done_parts(script: Script, number: int | None) -> frozenset[int]:
    """Return the parts of a script's job for a round that are done.

    Raises CampaignError if a file of the campaign cannot be read.
    """
    if script.campaign is None:
        return frozenset({0}) if is_dataset_checked(script.name.partition("/")[0]) else frozenset()
    return CampaignProgress(script.campaign).done_parts(script.phase, number or 0, script.parts)


def is_dataset_checked(dataset: str) -> bool:
    """Tell whether a dataset was read and checked; campaigns check newer files when they start."""
    preprocessed = os.environ.get("nnUNet_preprocessed")
    return preprocessed is not None and Path(preprocessed, dataset, "al_images", "facts.json").is_file()
