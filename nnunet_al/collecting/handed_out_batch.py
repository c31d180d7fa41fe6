"""The batch as it was handed out, per case, for checking the returned files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from nnunet_al.annotation.expected_case import ExpectedCase
from nnunet_al.annotation.grids import Grid, read_grid
from nnunet_al.annotation.manifest import MANIFEST, grid_in, read_manifest
from nnunet_al.errors import CampaignError
from nnunet_al.files import hash_array
from nnunet_al.nnunet.file_axes import FileAxes, file_axes
from nnunet_al.pool.boxes import Region, as_box
from nnunet_al.rounds.context import RoundContext


@dataclass(frozen=True)
class HandedOutCase:
    """One case of the batch.

    Attributes
    ----------
    asked : the regions to annotate and the labels that were handed out, on the file's axes
    axes : conversion to the axes of nnU-Net's reader
    properties : geometry of the image, for writing labels
    """

    asked: ExpectedCase
    axes: FileAxes
    properties: dict[str, Any]


class HandedOutBatch:
    """The batch of one round in its folder."""

    def __init__(self, context: RoundContext, folder: Path, regions: Sequence[Region]) -> None:
        """Read the manifest of ``folder``, the batch folder of ``context``'s round.

        Raises CampaignError if it is broken, or belongs to another batch.
        """
        manifest = read_manifest(folder)
        if (manifest["campaign"], manifest["round"]) != (context.folder.name, context.number):
            raise CampaignError(
                f"{folder} is the batch of round {manifest['round']} of {manifest['campaign']}, not of round "
                f"{context.number} of {context.folder.name}: put the right folder in its place."
            )
        entries = {entry["case"]: entry for entry in manifest["cases"]}
        if lacking := sorted({region.case for region in regions} - entries.keys()):
            raise CampaignError(f"{folder} does not list the case {lacking[0]}: restore the original folder.")
        self._context = context
        self._folder = folder
        self._regions = regions
        self._entries = entries
        self.case = lru_cache(maxsize=1)(self._case)  # files of the same case often follow each other

    @property
    def grids(self) -> dict[str, Grid]:
        """Case -> the grid of its image."""
        return {case: grid_in(entry) for case, entry in self._entries.items()}

    def other_cases(self, case: str) -> Iterator[ExpectedCase]:
        """Yield the other cases whose images have the same number of voxels along each axis.

        In round 0 all cases are handed out without a pre-segmentation, and nothing is read.
        """
        size, asked = self._entries[case]["geometry"]["size_ijk"], self.case(case).asked
        for other, entry in self._entries.items():
            if other == case or entry["geometry"]["size_ijk"] != size:
                continue
            grid = grid_in(entry)
            has_model = self._context.number > 0
            labels_kji = handed_out_labels(self._folder, entry, grid) if has_model else asked.handed_out_kji
            boxes = {region["rank"]: as_box(region["box_ijk"][::-1]) for region in entry["regions"]}
            yield ExpectedCase(other, grid, labels_kji, labels_kji, self._context.ignore, boxes)

    def changed_in_place(self) -> Iterator[Path]:
        """Yield the pre-segmentations that a reader has edited in place instead of returning a file."""
        handed_out = (self._folder / MANIFEST).stat().st_mtime
        for entry in self._entries.values():
            for file in entry["presegmentation"]["files"]:
                path = self._folder / file
                # only files newer than the manifest can have been edited; of these the labels are compared
                if path.is_file() and path.stat().st_mtime > handed_out and _labels(path, entry) is None:
                    yield path

    def _case(self, case: str) -> HandedOutCase:
        context, dataset = self._context, self._context.data.dataset
        files, shape = dataset.cases[case], context.data.facts[case].raw_shape
        grid = read_grid(files.images[0])
        properties = context.label_format.image_properties(files.images)
        axes = file_axes(context.label_format, shape, properties, dataset.file_ending)
        earlier_xyz = context.ledger.labels(case, shape, context.commits)
        boxes = {
            rank: axes.box_to_file(region.box, shape)
            for rank, region in enumerate(self._regions, start=1)
            if region.case == case
        }
        handed_out_kji = handed_out_labels(self._folder, self._entries[case], grid)
        earlier_kji = np.ascontiguousarray(axes.to_file(earlier_xyz))
        asked = ExpectedCase(case, grid, handed_out_kji, earlier_kji, context.ignore, boxes)
        return HandedOutCase(asked, axes, properties)


def handed_out_labels(folder: Path, entry: Mapping[str, Any], grid: Grid) -> np.ndarray:
    """Return the pre-segmentation (k, j, i) of a case in the manifest as it was handed out.

    It was written to several files, of which the first unchanged one is read. If all have been changed, the
    pre-segmentation counts as empty.
    """
    for file in entry["presegmentation"]["files"]:
        if (labels_kji := _labels(folder / file, entry)) is not None:
            return labels_kji
    return np.zeros(grid.shape_kji, np.int32)


def _labels(path: Path, entry: Mapping[str, Any]) -> np.ndarray | None:
    """Read a pre-segmentation; None if it is not the one that was handed out."""
    try:
        if list(read_grid(path).size_ijk) != list(entry["geometry"]["size_ijk"]):
            return None
        labels_kji = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).astype(np.int32)
    except RuntimeError:
        return None
    return labels_kji if hash_array(labels_kji) == entry["presegmentation"]["sha256"] else None
