"""The ledger: one immutable file per commit, one label volume per case and commit. It is the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_al.annotation.cost import annotation_cost
from nnunet_al.campaign.commits import (
    CORRECTION,
    DATASET,
    ORACLE,
    Commit,
    LabelEntry,
    commit_to_json,
    entry_file,
    entry_files,
    read_commits,
)
from nnunet_al.errors import CampaignError
from nnunet_al.files import hash_array, remove_temporary_files, write_json
from nnunet_al.pool.boxes import Region

if TYPE_CHECKING:
    from nnunet_al.nnunet.label_io import LabelFormat  # loads nnU-Net


@dataclass(frozen=True)
class CaseAnnotation:
    """The annotation of one case by one commit: labels (z, y, x), the ignore value elsewhere.

    ``returned`` is the SHA-256 of the file that a reader returned.
    """

    labels_xyz: np.ndarray
    properties: dict[str, Any]
    returned: str | None = None


class Ledger:
    """Reads and appends commits; entries are never changed."""

    def __init__(self, folder: Path, label_format: LabelFormat, file_ending: str, ignore: int) -> None:
        """Use the ledger in ``folder``; label volumes have the dataset's format and hold ``ignore`` elsewhere."""
        self.folder = folder
        self.label_format = label_format
        self.ignore = ignore
        self._ending = file_ending
        self._geometries: dict[Path, dict[str, Any]] = {}

    def commits(self) -> list[Commit]:
        """Return all commits in order; see `read_commits`."""
        return read_commits(self.folder)

    def length(self) -> int:
        """Return how many commits there are.

        Raises CampaignError if an entry is missing.
        """
        return len(entry_files(self.folder))

    def commit_of_round(self, round_number: int) -> Commit | None:
        """Return the commit in which the dataset's own labels answered a round's batch, if there is one."""
        return next((c for c in self.commits() if c.round == round_number and c.source in {ORACLE, DATASET}), None)

    def append(
        self,
        round_number: int,
        source: str,
        reader: str,
        regions: tuple[Region, ...],
        annotations: Mapping[str, CaseAnnotation],
        disagreements: tuple[str, ...] = (),
        minutes: float | None = None,
        collected: str | None = None,
    ) -> Commit:
        """Append one commit; label volumes first, the entry that names them last and in one step."""
        remove_temporary_files(self.folder)
        number = self.length()
        labels = {}
        for case, annotation in sorted(annotations.items()):
            self.label_format.write(self.label_file(number, case), annotation.labels_xyz, annotation.properties)
            cost = annotation_cost(annotation.labels_xyz, annotation.properties["spacing"], self.ignore)
            labels[case] = LabelEntry(
                hash_array(annotation.labels_xyz.astype(np.int32)),
                cost.annotated_voxels,
                cost.foreground_voxels,
                cost.contour_mm,
                annotation.returned,
            )
        commit = Commit(number, round_number, source, reader, regions, labels, disagreements, minutes, collected)
        write_json(entry_file(self.folder, number), commit_to_json(commit))
        return commit

    def labels(self, case: str, shape: tuple[int, ...], commits: list[Commit]) -> np.ndarray:
        """Compose the labels (z, y, x) of a case from ``commits``; the first annotation of a voxel stands.

        A correction replaces earlier labels; single readings of several are left out.

        Raises CampaignError if a label volume is not the one that was committed.
        """
        composed_xyz = np.full(shape, self.ignore, np.int32)
        for commit in commits:
            if commit.counts and case in commit.labels:
                put_labels(composed_xyz, self.volume(commit, case), commit.source, self.ignore)
        return composed_xyz

    def properties(self, case: str, commits: list[Commit]) -> dict[str, Any]:
        """Return the geometry of a case's label volumes, for writing composed ones."""
        commit = next(commit for commit in commits if case in commit.labels)
        path = self.label_file(commit.number, case)
        known = self._geometries.get(path)  # its labels have just been read
        return self.label_format.read_with_properties(path)[1] if known is None else known

    def volume(self, commit: Commit, case: str) -> np.ndarray:
        """Return the labels (z, y, x) that one commit holds of a case, ignore elsewhere.

        Raises CampaignError if the label volume is not the one that was committed.
        """
        path = self.label_file(commit.number, case)
        labels_xyz, self._geometries[path] = self.label_format.read_with_properties(path)
        if hash_array(labels_xyz) != commit.labels[case].sha256:
            raise CampaignError(
                f"The label volume {path} is not the one that was committed: restore it from a backup, since the "
                "campaign cannot go on without it."
            )
        return labels_xyz

    def label_file(self, number: int, case: str) -> Path:
        """Return the path of the label volume that a commit holds of a case."""
        return self.folder / f"{number:03d}" / f"{case}{self._ending}"


def put_labels(composed_xyz: np.ndarray, labels_xyz: np.ndarray, source: str, ignore: int) -> None:
    """Add the labels of one commit to composed ones, which are changed: only a correction replaces earlier labels."""
    where_xyz = labels_xyz != ignore if source == CORRECTION else composed_xyz == ignore
    np.copyto(composed_xyz, labels_xyz, where=where_xyz)
