"""The ledger's entries: the annotations of each commit, their cost, and the regions of a batch that are left."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from nnunet_al.campaign.folders import RoundFolder
from nnunet_al.errors import CampaignError
from nnunet_al.files import read_json
from nnunet_al.pool.boxes import Region, as_box

SCHEMA = 2
_READABLE = {1, 2}

ORACLE, DATASET, READER = "oracle", "dataset", "reader"
READING, CONSENSUS, CORRECTION, CLOSED = "reading", "consensus", "correction", "closed"
"""Where commits come from; see `Commit`."""


@dataclass(frozen=True)
class LabelEntry:
    """One label volume in an entry of the ledger.

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
    source : "oracle" (simulated from the dataset's labels), "dataset" (annotations from before the campaign),
        "reader", "consensus" (of several readers), "reading" (one of several; kept, but not trained on), "correction"
        (replaces earlier annotations) or "closed" (the rest of a batch went back to the pool)
    regions : the annotated regions; for the source "dataset" those annotated in full, while the volumes hold every part
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

    Raises CampaignError if an entry is missing, cannot be read or was written by a newer version.
    """
    return [_read_commit(path) for path in entry_files(folder)]


def asked_regions(round_: RoundFolder) -> list[Region]:
    """Return the regions that a round's batch asks for, by rank."""
    return [Region(entry["case"], as_box(entry["box"])) for entry in read_json(round_.batch)["regions"]]


def unanswered_regions(round_: RoundFolder, commits: Sequence[Commit]) -> list[Region]:
    """Return the regions of a round's batch that nobody has annotated yet; none when the batch was closed."""
    if any(commit.source == CLOSED and commit.round == round_.number for commit in commits):
        return []
    answered = {region for commit in commits if commit.counts for region in commit.regions}
    return [region for region in asked_regions(round_) if region not in answered]


def awaited_regions(round_: RoundFolder, commits: Sequence[Commit], pool_cases: Iterable[str]) -> list[Region]:
    """Return the regions of a round's batch that are not annotated yet, without those of cases withdrawn since."""
    pool = set(pool_cases)
    return [region for region in unanswered_regions(round_, commits) if region.case in pool]


@dataclass(frozen=True)
class AnnotationCost:
    """The sum over some commits.

    ``regions`` and ``cases`` are counted once, however often they were read or corrected; ``voxels``,
    ``foreground_voxels`` and ``contour_mm`` (mm) are those of the annotations that count, ``minutes`` all that readers
    reported. None: not known for some of the annotations (for minutes: for all of them).
    """

    regions: int
    cases: int
    voxels: int
    foreground_voxels: int | None
    contour_mm: float | None
    minutes: float | None

    def to_json(self, prefix: str = "") -> dict[str, Any]:
        """Return the numbers by name, each with ``prefix`` before its name."""
        return {f"{prefix}{name}": value for name, value in asdict(self).items()}


def total_cost(commits: Iterable[Commit], without: Collection[str] = ()) -> AnnotationCost:
    """Add up the cost of ``commits``, without the cases that were withdrawn.

    A correction adds minutes only: its voxels were counted when they were annotated first.
    """
    commits = list(commits)
    first = [commit for commit in commits if commit.counts and commit.source != CORRECTION]
    labels = [entry for c in first for case, entry in c.labels.items() if case not in without]
    foreground, contours = [entry.foreground_voxels for entry in labels], [entry.contour_mm for entry in labels]
    minutes = [commit.minutes for commit in commits if commit.minutes is not None]
    return AnnotationCost(
        regions=len({region for commit in first for region in commit.regions if region.case not in without}),
        cases=len({case for commit in first for case in commit.labels if case not in without}),
        voxels=sum(entry.annotated_voxels for entry in labels),
        foreground_voxels=None if None in foreground else sum(value for value in foreground if value is not None),
        contour_mm=None if None in contours else round(sum(value for value in contours if value is not None), 3),
        minutes=sum(minutes) if minutes else None,
    )


def entry_files(folder: Path) -> list[Path]:
    """Return the entries in order, of which none may be missing."""
    paths = sorted(folder.glob("[0-9][0-9][0-9]*.json"), key=lambda path: int(path.stem))
    for number, path in enumerate(paths):
        if int(path.stem) != number:
            missing = entry_file(folder, number)
            raise CampaignError(
                f"The ledger's entry {missing} is missing, though {path.name} is there: restore it from a backup."
            )
    return paths


def entry_file(folder: Path, number: int) -> Path:
    """Return the path of an entry, which need not exist."""
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
    return {"schema": SCHEMA, **asdict(commit)}


def _commit_from_json(entry: dict[str, Any]) -> Commit:
    known = {column.name: entry[column.name] for column in fields(Commit) if column.name in entry}
    regions = tuple(Region(region["case"], as_box(region["box"])) for region in entry["regions"])
    labels = {case: LabelEntry(**volume) for case, volume in entry["labels"].items()}
    return Commit(**known | {"regions": regions, "labels": labels, "disagreements": tuple(entry["disagreements"])})
