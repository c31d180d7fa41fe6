"""The instructions in a batch folder for MONAI Label, for the person who runs the server and for the readers."""

from __future__ import annotations

from nnunet_al.annotation.how_to import instruction_fields
from nnunet_al.annotation.manifest import Batch

_PAGE = """\
HOW TO ANNOTATE THIS BATCH WITH MONAI LABEL
Dataset {dataset}, round {round}: {n_regions} in {n_cases}

Your task
  {extent}
  Inside, every voxel counts: voxels that you leave unpainted are background.
  {start}
  The structures: {structures}.
  Please do not rename structures, and do not add any, nor one called
  "background".

The person who runs the server (once, where MONAI Label 0.8 is installed)
  In this folder:  monailabel start_server --app app --studies .
  Everybody who can reach that computer can read the images: add --host 127.0.0.1
  if all readers work on it. Stop the server with Ctrl+C; you can start it again.
  Do not edit datastore_v2.json, and change nothing in the folder labels.

Readers, in 3D Slicer with the extension MONAILabel
  1. Once: Edit > Application Settings > MONAI Label: enter your initials as
     Client/User-ID. It is kept with your labels, and two readers with different
     IDs are given different images.
  2. Module "MONAI Label": enter the server's address (http://COMPUTER:8000), choose
     "by_rank" under Active Learning and press "Next Sample".{proposal}
  3. To see where to annotate, drag roi/CASE_*.mrk.json into the window.
  4. Correct the segmentation, then press "Submit Label". This means that you have
     reviewed {everything} of this case, also where nothing had to
     be changed. If you submit the same case again later, the new label is not
     used automatically: tell the person who runs the project.
CASE stands for the name of the case, for example {example}.{channels}

Notes
  Submitted labels appear in labels/final. They are only read, never changed.
  A label that is flagged in the module "MONAI Label Reviewer" is not used until
  it is submitted again or approved.
  Under "minutes" in batch.csv you may write how long a region took. The column
  "reviewed" is not needed: submitted labels count as reviewed.
"""
_PROPOSAL = """
     The proposal appears automatically; if not, choose "presegmentation" under
     Auto Segmentation and press Run."""


def how_to(batch: Batch, n_regions: int, cases: list[str], n_channels: int) -> str:
    """Return the text of ``HOWTO.txt``.

    Parameters
    ----------
    batch
        the batch
    n_regions
        number of its regions
    cases
        the ids of its cases, at least one
    n_channels
        number of images per case, of which MONAI Label shows the first
    """
    channels = (
        f"\nEach case has {n_channels} images; MONAI Label shows the first, the others lie in the folder images."
        if n_channels > 1
        else ""
    )
    return _PAGE.format(
        **instruction_fields(batch, n_regions, cases),
        start="There is no proposal yet: you start with an empty segmentation."
        if batch.model is None
        else "You are shown a model's proposal: correct it where it is wrong.",
        proposal="" if batch.model is None else _PROPOSAL,
        everything="the whole" if batch.unit == "case" else "all outlined regions",
        channels=channels,
    )
