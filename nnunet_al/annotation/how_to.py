"""The instructions in a batch folder, for readers who know neither nnU-Net nor Python."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from nnunet_al.annotation.manifest import Batch
from nnunet_al.text import count

_PAGE = files("nnunet_al.annotation").joinpath("how_to.txt").read_text(encoding="utf-8")
_SEVERAL = """\
Several readers
  Each region is to be read by {readings} people independently of each other: please do
  not look at another reader's segmentation. Make a folder with your initials in
  the folder returned, and save your files and your copy of batch.csv there, for
  example returned/AB/{example}.seg.nrrd."""
_ONE = """\
Several readers
  If you share this batch with others, make a folder with your initials in the
  folder returned, and save your files and your copy of batch.csv there, for
  example returned/AB/{example}.seg.nrrd."""


def how_to(batch: Batch, n_regions: int, cases: list[str], n_channels: int, ending: str) -> str:
    """Return the text of ``HOWTO.txt`` for a batch of at least one case; ``ending`` is that of the image files."""
    channels = f"\nEach case has {n_channels} images, _0000 to _{n_channels - 1:04d}, of the same voxels."
    return _PAGE.format(
        **instruction_fields(batch, n_regions, cases),
        start="The files in preseg hold a model's proposal: correct it where it is wrong."
        if batch.model is not None
        else "There is no proposal yet: the files in preseg are empty but define the structures.",
        ending=ending,
        channels=channels if n_channels > 1 else "",
        readers=(_SEVERAL if batch.readings > 1 else _ONE).format(readings=batch.readings, example=cases[0]),
    )


def instruction_fields(batch: Batch, n_regions: int, cases: Sequence[str]) -> dict[str, str]:
    """Return the values of the fields that all pages of instructions have in common."""
    return {
        "dataset": batch.dataset,
        "round": str(batch.round),
        "n_regions": count(n_regions, "region"),
        "n_cases": count(len(cases), "case"),
        "extent": "Please annotate each case as a whole."
        if batch.unit == "case"
        else "Please annotate only inside the outlined regions; the rest of the image is not used.",
        "structures": ", ".join(segment.name for segment in batch.segments),
        "example": cases[0],
    }
