"""The page of instructions in a batch folder for MONAI Label, for whoever runs the server and for the readers."""

from __future__ import annotations

from nnunet_al.annotation.how_to import what_is_asked
from nnunet_al.annotation.manifest import Batch

_PAGE = """\
HOW TO ANNOTATE THIS BATCH WITH MONAI LABEL
Dataset {dataset}, round {round}: {n_regions} in {n_cases}

What is asked
  {extent}
  Inside, every voxel counts: what you leave unpainted is background.
  {start}
  The structures: {structures}.
  Please do not rename structures, and do not add any, nor one called
  "background".

Whoever runs the server (once, where MONAI Label 0.8 is installed)
  In this folder:  monailabel start_server --app app --studies .
  Whoever can reach that computer can read the images: add --host 127.0.0.1 if
  everybody works on it. Stop the server with Ctrl+C; started again, it goes on.
  Do not edit datastore_v2.json, and change nothing in the folder labels.

Readers, in 3D Slicer with the extension MONAILabel
  1. Once: Edit > Application Settings > MONAI Label: enter your initials as
     Client/User-ID. It is kept with your labels, and two readers with different
     IDs are given different images.
  2. Module "MONAI Label": enter the server's address (http://COMPUTER:8000), choose
     "by_rank" under Active Learning and press "Next Sample".{proposal}
  3. To see where to annotate, drag roi/CASE_*.mrk.json into the window.
  4. Correct the segmentation, then press "Submit Label". That says that you have
     reviewed {everything} of this case, also where nothing had to
     be changed. What you submit for the same case later is not taken by itself:
     tell whoever runs the project.
CASE stands for the name of the case, for example {example}.{channels}

Good to know
  Submitted labels appear in labels/final. They are only read, never changed.
  A label that somebody flags in the module "MONAI Label Reviewer" is not taken
  until it is submitted again or approved.
  Under "minutes" in batch.csv you may write how long a region took. The column
  "reviewed" is not needed: submitting counts.
"""
_PROPOSAL = """
     The proposal appears by itself; if it does not, choose "presegmentation" under
     Auto Segmentation and press Run."""


def how_to(batch: Batch, n_regions: int, cases: list[str], n_channels: int) -> str:
    """The text of ``HOWTO.txt``.

    Parameters
    ----------
    batch
        what is handed out
    n_regions
        how many regions it asks for
    cases
        the ids of its cases, at least one
    n_channels
        images of a case, of which MONAI Label shows the first
    """
    channels = (
        f"\nEach case has {n_channels} images; MONAI Label shows the first, the others lie in the folder images."
        if n_channels > 1
        else ""
    )
    return _PAGE.format(
        **what_is_asked(batch, n_regions, cases),
        start="There is no proposal yet: you start from nothing."
        if batch.model is None
        else "You are shown a model's proposal: correct it where it is wrong.",
        proposal="" if batch.model is None else _PROPOSAL,
        everything="the whole" if batch.unit == "case" else "all outlined regions",
        channels=channels,
    )
