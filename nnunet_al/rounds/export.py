"""All that a campaign has annotated so far, as a plain nnU-Net dataset."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np

from nnunet_al.errors import CampaignError
from nnunet_al.files import write_json
from nnunet_al.new_folder import new_folder
from nnunet_al.rounds.composed import labels_after
from nnunet_al.rounds.context import RoundContext
from nnunet_al.terminal import progress


def export_dataset(context: RoundContext, target: Path) -> int:
    """Write the annotated cases as the dataset folder ``target`` and return how many there are.

    Images are copied. Labels are those of the ledger; where a case is annotated in part, the other voxels hold
    nnU-Net's ignore label, which ``dataset.json`` then declares. The folder appears complete or not at all.

    Raises CampaignError if ``target`` exists or nothing is annotated yet; StorageError if it cannot be written.
    """
    if target.exists():
        raise CampaignError(f"{target} exists already: choose another number with -o, or remove it.")
    commits = context.ledger.commits()
    cases = context.annotated_by(commits)
    if not cases:
        raise CampaignError(f"Nothing is annotated in {context.folder.root} yet: there is nothing to export.")
    dataset = context.data.dataset
    any_ignored = False
    with new_folder(target) as temporary:
        (temporary / "imagesTr").mkdir()
        for case in progress(cases, "cases"):
            for channel, image in enumerate(dataset.cases[case].images):
                shutil.copyfile(image, temporary / "imagesTr" / f"{case}_{channel:04d}{dataset.file_ending}")
            labels_xyz = labels_after(context.ledger, case, commits, dataset.cases[case], context.data.facts[case])
            any_ignored |= bool(np.any(labels_xyz == context.ignore))
            if sidecar := dataset.cases[case].image_sidecar():
                shutil.copyfile(sidecar, temporary / "imagesTr" / f"{case}.json")
            properties = context.ledger.properties(case, commits) | {"spacing": context.data.facts[case].spacing_mm}
            context.label_format.write(temporary / "labelsTr" / f"{case}{dataset.file_ending}", labels_xyz, properties)
        content = deepcopy(dataset.dataset_json)
        content.pop("dataset", None)
        content["numTraining"] = len(cases)
        if any_ignored:
            content["labels"]["ignore"] = context.ignore
        write_json(temporary / "dataset.json", content)
    return len(cases)
