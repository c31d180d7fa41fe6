"""The ledger: one immutable file per commit, one label volume per case and commit. It is the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.errors import CampaignError
from nnunet_al.files import hash_array, read_json, remove_temporary_files, write_json
from nnunet_al.nnunet.label_io import LabelFormat
from nnunet_al.pool.boxes import Region

SCHEMA = 1


@dataclass(frozen=True)
class CaseAnnotation:
    """What one commit adds to one case: labels (z, y, x) where it annotates, the ignore value elsewhere."""

    labels_xyz: np.ndarray
    properties: dict[str, Any]


@dataclass(frozen=True)
class Commit:
    """One entry of the ledger.

    Attributes
    ----------
    number : position in the ledger, from 0
    round : round whose batch was annotated
    source : "oracle" (simulated from the dataset's labels) or "dataset" (what was annotated before the campaign)
    regions : what was annotated; for the source "dataset" the whole case, of which the volumes tell the part
    label_hashes : case -> hash of its label volume
    annotated_voxels : case -> number of voxels that the commit added
    disagreements : sentences on voxels where an earlier annotation stands against this one
    """

    number: int
    round: int
    source: str
    reader: str
    regions: tuple[Region, ...]
    label_hashes: dict[str, str]
    annotated_voxels: dict[str, int]
    disagreements: tuple[str, ...] = field(default=())


class Ledger:
    """Reads and appends commits; what is there is never changed."""

    def __init__(self, folder: Path, label_format: LabelFormat, file_ending: str, ignore: int) -> None:
        """Use the ledger in ``folder``; label volumes have the dataset's format and hold ``ignore`` elsewhere."""
        self.folder = folder
        self._format = label_format
        self._ending = file_ending
        self._ignore = ignore

    def commits(self) -> list[Commit]:
        """Return all commits in order.

        Raises
        ------
        CampaignError
            if an entry is missing, cannot be read or was written by a newer version.
        """
        paths = sorted(self.folder.glob("[0-9][0-9][0-9]*.json"), key=lambda path: int(path.stem))
        commits = []
        for number, path in enumerate(paths):
            if int(path.stem) != number:
                missing = self._entry_file(number)
                raise CampaignError(
                    f"The ledger's entry {missing} is missing, though {path.name} is there: restore it from a backup."
                )
            commits.append(_read_commit(path))
        return commits

    def commit_of_round(self, round_number: int) -> Commit | None:
        """Return the commit that holds the annotations of a round's batch, if there is one."""
        return next((commit for commit in self.commits() if commit.round == round_number), None)

    def append(
        self,
        round_number: int,
        source: str,
        reader: str,
        regions: tuple[Region, ...],
        annotations: Mapping[str, CaseAnnotation],
        disagreements: tuple[str, ...] = (),
    ) -> Commit:
        """Append one commit; label volumes first, the entry that names them last and in one step."""
        remove_temporary_files(self.folder)
        number = len(self.commits())
        hashes, counts = {}, {}
        for case, annotation in sorted(annotations.items()):
            self._format.write(self._label_file(number, case), annotation.labels_xyz, annotation.properties)
            hashes[case] = hash_array(annotation.labels_xyz.astype(np.int32))
            counts[case] = int((annotation.labels_xyz != self._ignore).sum())
        commit = Commit(number, round_number, source, reader, regions, hashes, counts, disagreements)
        write_json(self._entry_file(number), _commit_to_json(commit))
        return commit

    def labels(self, case: str, shape: tuple[int, ...], commits: list[Commit]) -> np.ndarray:
        """Compose the labels (z, y, x) of a case from ``commits``; the first annotation of a voxel stands.

        Raises
        ------
        CampaignError
            if a label volume is not the one that was committed.
        """
        composed_xyz = np.full(shape, self._ignore, np.int32)
        for labels_xyz in self._volumes(case, commits):
            np.copyto(composed_xyz, labels_xyz, where=composed_xyz == self._ignore)
        return composed_xyz

    def properties(self, case: str, commits: list[Commit]) -> dict[str, Any]:
        """Return the geometry of a case's label volumes, for writing composed ones."""
        commit = next(commit for commit in commits if case in commit.label_hashes)
        return self._format.read_with_properties(self._label_file(commit.number, case))[1]

    def _volumes(self, case: str, commits: list[Commit]) -> Iterator[np.ndarray]:
        for commit in commits:
            if case not in commit.label_hashes:
                continue
            path = self._label_file(commit.number, case)
            labels_xyz = self._format.read(path)
            if hash_array(labels_xyz) != commit.label_hashes[case]:
                raise CampaignError(
                    f"The label volume {path} is not the one that was committed: restore it from a backup, since the "
                    "campaign cannot go on without it."
                )
            yield labels_xyz

    def _entry_file(self, number: int) -> Path:
        return self.folder / f"{number:03d}.json"

    def _label_file(self, number: int, case: str) -> Path:
        return self.folder / f"{number:03d}" / f"{case}{self._ending}"


def _read_commit(path: Path) -> Commit:
    try:
        entry = read_json(path)
        schema = entry["schema"]
        if schema == SCHEMA:
            return _commit_from_json(entry)
    except (ValueError, KeyError, TypeError) as error:
        raise CampaignError(f"The ledger's entry {path} cannot be read: restore it from a backup.") from error
    raise CampaignError(f"{path} has schema {schema}, this version reads {SCHEMA}: update nnunet-al.")


def _commit_to_json(commit: Commit) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "number": commit.number,
        "round": commit.round,
        "source": commit.source,
        "reader": commit.reader,
        "regions": [{"case": region.case, "box": [list(side) for side in region.box]} for region in commit.regions],
        "labels": {
            case: {"sha256": digest, "annotated_voxels": commit.annotated_voxels[case]}
            for case, digest in commit.label_hashes.items()
        },
        "disagreements": list(commit.disagreements),
    }


def _commit_from_json(entry: dict[str, Any]) -> Commit:
    return Commit(
        entry["number"],
        entry["round"],
        entry["source"],
        entry["reader"],
        tuple(Region(r["case"], tuple((lo, hi) for lo, hi in r["box"])) for r in entry["regions"]),
        {case: volume["sha256"] for case, volume in entry["labels"].items()},
        {case: volume["annotated_voxels"] for case, volume in entry["labels"].items()},
        tuple(entry["disagreements"]),
    )
