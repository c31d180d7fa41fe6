"""The instructions in a batch folder, for readers who know neither nnU-Net nor Python."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_al.annotation.manifest import Batch
from nnunet_al.text import count

_PAGE = """\
HOW TO ANNOTATE THIS BATCH
Dataset {dataset}, round {round}: {n_regions} in {n_cases}

Your task
  {extent}
  Inside, every voxel counts: voxels that you leave unpainted are background.
  {start}
  The structures: {structures}.
  Please do not rename structures, and do not add any.

3D Slicer
  1. Drag these three kinds of files of one case into the window:
       images/CASE_0000{ending}   preseg/CASE.seg.nrrd   roi/CASE_*.mrk.json
     The boxes show where to annotate.
  2. Correct the segmentation in the module "Segment Editor".
  3. Save (Ctrl+S) only the segmentation, into the folder returned, under the
     name CASE.seg.nrrd.

ITK-SNAP
  1. File > Open Main Image: images/CASE_0000{ending}
  2. Segmentation > Open Segmentation: preseg/CASE.nii.gz
  3. Segmentation > Import Label Descriptions: labels.txt
  4. File > Add Another Image: roi/CASE.nii.gz, as a semi-transparent overlay.
     It frames each region; where a frame covers a whole slice, that slice is the
     first or the last of the region and belongs to it.
  5. Correct the segmentation and save it (Segmentation > Save Segmentation
     Image) into the folder returned, under the name CASE.nii.gz.

CASE stands for the name of the case, for example {example}.{channels}

When a region is done
  Open batch.csv (Excel or any editor) and write "yes" under "reviewed" in the
  row of each region that you have finished, also where nothing had to be
  changed. Under "minutes" you may write how long it took. Save it as CSV, here or
  into the folder returned. Regions without a "yes" are not used, even if you
  painted in them, so you can return a part now and the rest later.

{readers}

Notes
  Do not crop or resample the image, and do not overwrite the files in images,
  preseg and roi. The files that you return are only read, never changed.
  cases.csv opens all cases one after the other with the extension
  SlicerCaseIterator of 3D Slicer, which saves into the folder preseg under a
  longer name: move the new file into the folder returned and name it as above.
"""
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
        number of images per case
    ending
        of the image files, such as ``.nii.gz``
    """
    channels = (
        f"\nEach case has {n_channels} images, _0000 to _{n_channels - 1:04d}, of the same voxels."
        if n_channels > 1
        else ""
    )
    return _PAGE.format(
        **instruction_fields(batch, n_regions, cases),
        start="The files in preseg hold a model's proposal: correct it where it is wrong."
        if batch.model is not None
        else "There is no proposal yet: the files in preseg are empty but define the structures.",
        ending=ending,
        channels=channels,
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
