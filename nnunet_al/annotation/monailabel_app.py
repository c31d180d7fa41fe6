"""The app for MONAI Label's server: the next image by rank, and stored pre-segmentations offered as a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_al.annotation.segments import Segment
from nnunet_al.files import write_json, write_text

# 3D Slicer's module loads labels/original before its segmentation exists, and so never shows it (source of 0.8.5), but
# it runs a model on each new image: therefore the pre-segmentation is offered as a "model". The server deletes the file
# that a model returns, so the model returns a copy.
_MAIN = '''\
"""Serves a batch of nnunet_al: monailabel start_server --app THIS_FOLDER --studies THE_FOLDER_ABOVE"""

import json
import os
import shutil
import tempfile
from pathlib import Path

from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random

BATCH = json.loads((Path(__file__).parent / "batch.json").read_text(encoding="utf-8"))


class ByRank(Strategy):
    """The image with the best rank among those that no other reader was given; then the others."""

    def __init__(self):
        super().__init__("The batch in the order of its ranks")

    def __call__(self, request, datastore):
        me = request.get("client_id")

        def order(image):
            info = datastore.get_image_info(image)
            given = info.get("strategy", {}).get(request["strategy"], {})
            with_another = bool(given) and given.get("client_id") != me
            return with_another, BATCH["ranks"].get(image, len(BATCH["ranks"]) + 1), image

        images = sorted(datastore.get_unlabeled_images(), key=order)
        return {"id": images[0]} if images else None


class PreSegmentation(InferTask):
    """The prediction of the round's model, computed when the batch was written."""

    def __init__(self, studies):
        super().__init__(InferType.SEGMENTATION, BATCH["labels"], 3, "The round's model, computed before")
        self.studies = Path(studies)

    def is_valid(self):
        return True

    def __call__(self, request):
        case = Path(request["image"]).name[: -len(".nii.gz")]
        handle, copy = tempfile.mkstemp(suffix=".nii.gz")
        os.close(handle)
        shutil.copyfile(self.studies / "labels" / "original" / (case + ".nii.gz"), copy)
        present = BATCH["present"].get(case, [])
        return copy, {"label_names": {name: value for name, value in BATCH["labels"].items() if name in present}}


class Batch(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        super().__init__(app_dir, studies, conf, BATCH["name"], BATCH["description"], labels=list(BATCH["labels"]))

    def init_infers(self):
        return {"presegmentation": PreSegmentation(self.studies)} if any(BATCH["present"].values()) else {}

    def init_strategies(self):
        return {"by_rank": ByRank(), "first": First(), "random": Random()}
'''


def write_app(
    folder: Path,
    name: str,
    description: str,
    segments: Sequence[Segment],
    ranks: Mapping[str, int],
    present: Mapping[str, Sequence[str]],
) -> None:
    """Write an app without models for ``monailabel start_server --app FOLDER --studies ...``.

    The server also writes its log into ``folder``; its clients show ``name`` and ``description``. ``ranks`` (case ->
    best rank of its regions) is the order of the strategy ``by_rank``. ``present`` maps a case to the names of the
    segments in its pre-segmentation, sorted by value. 3D Slicer assigns these names to the values in this order, so an
    additional name would shift all later ones.

    Raises StorageError if it cannot be written.
    """
    batch = {
        "name": name,
        "description": description,
        "labels": {segment.name: segment.value for segment in segments},
        "ranks": dict(ranks),
        "present": {case: list(names) for case, names in present.items()},
    }
    write_json(folder / "batch.json", batch)
    write_text(folder / "main.py", _MAIN)
