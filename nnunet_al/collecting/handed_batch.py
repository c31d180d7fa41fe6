"""What was handed out of each case of a batch, as the gate wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from nnunet_al.annotation.grids import read_grid
from nnunet_al.annotation.import_check import HandedOutCase
from nnunet_al.annotation.manifest import MANIFEST, grid_in, read_manifest
from nnunet_al.annotation.volumes import Grid
from nnunet_al.errors import CampaignError
from nnunet_al.files import hash_array
from nnunet_al.nnunet.file_axes import FileAxes, file_axes
from nnunet_al.pool.boxes import Region
from nnunet_al.rounds.context import RoundContext


@dataclass(frozen=True)
class HandedCase:
    """One case: what was asked of it, on the file's axes, and the way back to the axes of nnU-Net's reader."""

    asked: HandedOutCase
    axes: FileAxes
    properties: dict[str, Any]


class HandedBatch:
    """The batch of one round, as it lies in its folder."""

    def __init__(self, context: RoundContext, folder: Path, regions: Sequence[Region]) -> None:
        """Look at the manifest of ``folder``, the hand-out of ``context``'s round.

        Raises
        ------
        CampaignError
            if it is broken, or another batch's.
        """
        manifest = read_manifest(folder)
        if (manifest["campaign"], manifest["round"]) != (context.folder.name, context.number):
            raise CampaignError(
                f"{folder} is the batch of round {manifest['round']} of {manifest['campaign']}, not of round "
                f"{context.number} of {context.folder.name}: put the right folder in its place."
            )
        entries = {entry["case"]: entry for entry in manifest["cases"]}
        if lacking := sorted({region.case for region in regions} - entries.keys()):
            raise CampaignError(f"{folder} knows nothing of {lacking[0]}: bring it back as it was handed out.")
        self._context = context
        self._folder = folder
        self._regions = regions
        self._entries = entries
        self.case = lru_cache(maxsize=1)(self._case)  # files of a case often follow each other

    def others(self, case: str) -> Mapping[str, HandedOutCase]:
        """Return the other cases whose images have as many voxels along each axis, read when they are looked at.

        Before there is a model all cases are handed out empty, and none looks like another.
        """
        size = self._entries[case]["geometry"]["size_ijk"]
        alike = [other for other, entry in self._entries.items() if entry["geometry"]["size_ijk"] == size]
        return _Others(self._asked_of, [other for other in alike if other != case] if self._context.number else [])

    def changed_in_place(self) -> Iterator[Path]:
        """Yield the pre-segmentations that somebody has drawn into where they lie, instead of returning a file."""
        handed_out = (self._folder / MANIFEST).stat().st_mtime
        for entry in self._entries.values():
            for file in entry["presegmentation"]["files"]:
                path = self._folder / file
                # older files cannot have been written to; of the younger ones, what they hold decides
                if path.is_file() and path.stat().st_mtime > handed_out and _labels(path, entry) is None:
                    yield path

    def _case(self, case: str) -> HandedCase:
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
        asked = HandedOutCase(
            case,
            grid,
            handed_labels(self._folder, self._entries[case], grid),
            np.ascontiguousarray(axes.to_file(earlier_xyz)),
            context.ignore,
            boxes,
        )
        return HandedCase(asked, axes, properties)

    def _asked_of(self, case: str) -> HandedOutCase:
        """Return what the gate looks at in a case that a file may really be of."""
        grid = grid_in(self._entries[case])
        labels_kji = handed_labels(self._folder, self._entries[case], grid)
        return HandedOutCase(case, grid, labels_kji, labels_kji, self._context.ignore, {})


def handed_labels(folder: Path, entry: Mapping[str, Any], grid: Grid) -> np.ndarray:
    """Return the pre-segmentation (k, j, i) of a manifest's case as it was handed out.

    Each was written more than once; a file that somebody has changed since is passed over. Where all were, nothing is
    known of it, and it counts as empty.
    """
    for file in entry["presegmentation"]["files"]:
        if (labels_kji := _labels(folder / file, entry)) is not None:
            return labels_kji
    return np.zeros(grid.shape_kji, np.int32)


def _labels(path: Path, entry: Mapping[str, Any]) -> np.ndarray | None:
    """Read a pre-segmentation; None where it is not the one that was handed out."""
    try:
        labels_kji = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).astype(np.int32)
    except RuntimeError:
        return None
    return labels_kji if hash_array(labels_kji) == entry["presegmentation"]["sha256"] else None


class _Others(Mapping[str, HandedOutCase]):
    def __init__(self, read: Callable[[str], HandedOutCase], cases: Sequence[str]) -> None:
        self._read = read
        self._cases = cases

    def __getitem__(self, case: str) -> HandedOutCase:
        return self._read(case)

    def __iter__(self) -> Iterator[str]:
        return iter(self._cases)

    def __len__(self) -> int:
        return len(self._cases)
