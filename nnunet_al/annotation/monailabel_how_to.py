"""The instructions in a batch folder for MONAI Label, for the person who runs the server and for the readers."""

from __future__ import annotations

from importlib.resources import files

from nnunet_al.annotation.how_to import instruction_fields
from nnunet_al.annotation.manifest import Batch

_PAGE = files("nnunet_al.annotation").joinpath("monailabel_how_to.txt").read_text(encoding="utf-8")
_PROPOSAL = """
     The proposal appears automatically; if not, choose "presegmentation" under
     Auto Segmentation and press Run."""


def how_to(batch: Batch, n_regions: int, cases: list[str], n_channels: int) -> str:
    """Return the text of ``HOWTO.txt`` for a batch of at least one case."""
    channels = f"\nEach case has {n_channels} images; MONAI Label shows the first, the others lie in the folder images."
    return _PAGE.format(
        **instruction_fields(batch, n_regions, cases),
        start="There is no proposal yet: you start with an empty segmentation."
        if batch.model is None
        else "You are shown a model's proposal: correct it where it is wrong.",
        proposal="" if batch.model is None else _PROPOSAL,
        everything="the whole" if batch.unit == "case" else "all outlined regions",
        channels=channels if n_channels > 1 else "",
    )
