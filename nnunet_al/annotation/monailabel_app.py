"""The app for MONAI Label's server: the next image by rank, and stored pre-segmentations offered as a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from nnunet_al.annotation.segments import Segment
from nnunet_al.files import write_json, write_text

# 3D Slicer's module loads labels/original before its segmentation exists, and so never shows it (source of 0.8.5), but
# it runs a model on each new image: therefore the pre-segmentation is offered as a "model". The server deletes the file
# that a model returns, so the model returns a copy.
_MAIN = files("nnunet_al.annotation").joinpath("monailabel_main.txt").read_text(encoding="utf-8")


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
