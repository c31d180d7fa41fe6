"""The ledger: one immutable file per commit, one label volume per case and commit. It is the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_al.errors import CampaignError
from nnunet_al.files import hash_array, read_json, remove_temporary_files, write_json
from nnunet_al.pool.boxes import Region, as_box

if TYPE_CHECKING:
    from nnunet_al.nnunet.label_io import LabelFormat

SCHEMA = 2
_READABLE = {1, 2}

ORACLE, DATASET, READER = "oracle", "dataset", "reader"
READING, CONSENSUS, CORRECTION, CLOSED = "reading", "consensus", "correction", "closed"
"""Where commits come from; see `Commit`."""


@dataclass(frozen=True)
class CaseAnnotation:
    """What one commit adds to one case: labels (z, y, x) where it annotates, the ignore value elsewhere.

    ``returned`` is the SHA-256 of the file that a reader returned.
    """

    labels_xyz: np.ndarray
    properties: dict[str, Any]
    returned: str | None = None


@dataclass(frozen=True)
class LabelEntry:
    """What the ledger's entry says of one label volume.

    ``sha256`` is that of its values; ``foreground_voxels`` and ``contour_mm`` (see `annotation_cost`) are None in
    entries of the first schema.
    """

    sha256: str
    annotated_voxels: int
    foreground_voxels: int | None = None
    contour_mm: float | None = None
    returned: str | None = None


@dataclass(frozen=True)
class Commit:
    """One entry of the ledger.

    Attributes
    ----------
    number : position in the ledger, from 0
    round : round whose batch was annotated
    source : "oracle" (simulated from the dataset's labels), "dataset" (what was annotated before the campaign),
        "reader", "consensus" (of several readers), "reading" (one of several; kept, but not trained on), "correction"
        (takes the place of what was annotated before) or "closed" (the rest of a batch went back to the pool)
    regions : what was annotated; for the source "dataset" the whole case, of which the volumes tell the part
    labels : case -> its label volume
    disagreements : sentences on voxels where an earlier annotation stands against this one
    minutes : the reader's time, where it is known
    collected : when a reader's files were taken, in ISO 8601
    """

    number: int
    round: int
    source: str
    reader: str
    regions: tuple[Region, ...]
    labels: dict[str, LabelEntry]
    disagreements: tuple[str, ...] = field(default=())
    minutes: float | None = None
    collected: str | None = None

    @property
    def counts(self) -> bool:
        """Whether models are trained on it."""
        return self.source not in {READING, CLOSED}


def read_commits(folder: Path) -> list[Commit]:
    """Return all commits of the ledger in ``folder``, in order; label volumes are not opened.

    Raises
    ------
    CampaignError
        if an entry is missing, cannot be read or was written by a newer version.
    """
    return [_read_commit(path) for path in _entry_files(folder)]


class Ledger:
    """Reads and appends commits; what is there is never changed."""

    def __init__(self, folder: Path, label_format: LabelFormat, file_ending: str, ignore: int) -> None:
        """Use the ledger in ``folder``; label volumes have the dataset's format and hold ``ignore`` elsewhere."""
        self.folder = folder
        self._format = label_format
        self._ending = file_ending
        self._ignore = ignore

    def commits(self) -> list[Commit]:
        """Return all commits in order; see `read_commits`."""
        return read_commits(self.folder)

    def length(self) -> int:
        """Return how many commits there are.

        Raises
        ------
        CampaignError
            if an entry is missing.
        """
        return len(_entry_files(self.folder))

    def commit_of_round(self, round_number: int) -> Commit | None:
        """Return the commit in which the dataset's own labels answered a round's batch, if there is one."""
        return next(
            (c for c in self.commits() if c.round == round_number and c.source in {ORACLE, DATASET}),
            None,
        )

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
        from nnunet_al.annotation.cost import annotation_cost

        remove_temporary_files(self.folder)
        number = self.length()
        labels = {}
        for case, annotation in sorted(annotations.items()):
            self._format.write(self._label_file(number, case), annotation.labels_xyz, annotation.properties)
            cost = annotation_cost(annotation.labels_xyz, annotation.properties["spacing"], self._ignore)
            labels[case] = LabelEntry(
                hash_array(annotation.labels_xyz.astype(np.int32)),
                cost.annotated_voxels,
                cost.foreground_voxels,
                cost.contour_mm,
                annotation.returned,
            )
        commit = Commit(number, round_number, source, reader, regions, labels, disagreements, minutes, collected)
        write_json(_entry_file(self.folder, number), commit_to_json(commit))
        return commit

    def labels(self, case: str, shape: tuple[int, ...], commits: list[Commit]) -> np.ndarray:
        """Compose the labels (z, y, x) of a case from ``commits``; the first annotation of a voxel stands.

        A correction takes the place of what came before it; single readings of several are left out.

        Raises
        ------
        CampaignError
            if a label volume is not the one that was committed.
        """
        composed_xyz = np.full(shape, self._ignore, np.int32)
        for commit in commits:
            if commit.counts and case in commit.labels:
                labels_xyz = self.volume(commit, case)
                corrects = commit.source == CORRECTION
                where_xyz = labels_xyz != self._ignore if corrects else composed_xyz == self._ignore
                np.copyto(composed_xyz, labels_xyz, where=where_xyz)
        return composed_xyz

    def properties(self, case: str, commits: list[Commit]) -> dict[str, Any]:
        """Return the geometry of a case's label volumes, for writing composed ones."""
        commit = next(commit for commit in commits if case in commit.labels)
        return self._format.read_with_properties(self._label_file(commit.number, case))[1]

    def volume(self, commit: Commit, case: str) -> np.ndarray:
        """Return the labels (z, y, x) that one commit holds of a case, ignore elsewhere.

        Raises
        ------
        CampaignError
            if the label volume is not the one that was committed.
        """
        path = self._label_file(commit.number, case)
        labels_xyz = self._format.read(path)
        if hash_array(labels_xyz) != commit.labels[case].sha256:
            raise CampaignError(
                f"The label volume {path} is not the one that was committed: restore it from a backup, since the "
                "campaign cannot go on without it."
            )
        return labels_xyz

    def _label_file(self, number: int, case: str) -> Path:
        return self.folder / f"{number:03d}" / f"{case}{self._ending}"


def _entry_files(folder: Path) -> list[Path]:
    """Return the entries in order, of which none may be missing."""
    paths = sorted(folder.glob("[0-9][0-9][0-9]*.json"), key=lambda path: int(path.stem))
    for number, path in enumerate(paths):
        if int(path.stem) != number:
            missing = _entry_file(folder, number)
            raise CampaignError(
                f"The ledger's entry {missing} is missing, though {path.name} is there: restore it from a backup."
            )
    return paths


def _entry_file(folder: Path, number: int) -> Path:
    return folder / f"{number:03d}.json"


def _read_commit(path: Path) -> Commit:
    try:
        entry = read_json(path)
        schema = entry["schema"]
        if schema in _READABLE:
            return _commit_from_json(entry)
    except (ValueError, KeyError, TypeError) as error:
        raise CampaignError(f"The ledger's entry {path} cannot be read: restore it from a backup.") from error
    raise CampaignError(f"{path} has schema {schema}, this version reads {SCHEMA}: update nnunet-al.")


def commit_to_json(commit: Commit) -> dict[str, Any]:
    """Return a commit as its entry holds it."""
    return {
        "schema": SCHEMA,
        "number": commit.number,
        "round": commit.round,
        "source": commit.source,
        "reader": commit.reader,
        "regions": [{"case": region.case, "box": [list(side) for side in region.box]} for region in commit.regions],
        "labels": {case: asdict(entry) for case, entry in commit.labels.items()},
        "disagreements": list(commit.disagreements),
        "minutes": commit.minutes,
        "collected": commit.collected,
    }


def _commit_from_json(entry: dict[str, Any]) -> Commit:
    return Commit(
        entry["number"],
        entry["round"],
        entry["source"],
        entry["reader"],
        tuple(Region(r["case"], as_box(r["box"])) for r in entry["regions"]),
        {case: LabelEntry(**volume) for case, volume in entry["labels"].items()},
        tuple(entry["disagreements"]),
        entry.get("minutes"),
        entry.get("collected"),
    )
