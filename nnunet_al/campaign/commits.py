"""The ledger's entries: the annotations of each commit, their cost, and the regions of a batch that are left."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from nnunet_al.campaign.folders import RoundFolder
from nnunet_al.checksums import SEAL, is_sealed, seal
from nnunet_al.errors import CampaignError
from nnunet_al.files import read_json
from nnunet_al.pool.boxes import Region, as_box

SCHEMA = 3
_READABLE = {1, 2, 3}
_SEALED = {3}

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
    """Return the regions that a round's batch asks for, by rank.

    Raises CampaignError if the file is broken.
    """
    try:
        return [Region(entry["case"], as_box(entry["box"])) for entry in read_json(round_.batch)["regions"]]
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CampaignError(f"{round_.batch} cannot be read: restore it from a backup.") from error


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


class CostSoFar:
    """Adds up the cost of commits one after the other, without the cases that were withdrawn."""

    def __init__(self, without: Collection[str] = ()) -> None:
        """Begin with no commit; cases in ``without`` do not count."""
        self._without = frozenset(without)
        self._regions: set[Region] = set()
        self._cases: set[str] = set()
        self._sums: dict[str, float | None] = dict.fromkeys(("annotated_voxels", "foreground_voxels", "contour_mm"), 0)
        self._minutes: float | None = None

    def add(self, commit: Commit) -> None:
        """Add one commit; a correction adds minutes only: its voxels were counted when they were annotated first."""
        if commit.minutes is not None:
            self._minutes = (self._minutes or 0) + commit.minutes
        if not commit.counts or commit.source == CORRECTION:
            return
        self._regions |= {region for region in commit.regions if region.case not in self._without}
        self._cases |= commit.labels.keys() - self._without
        for entry in (entry for case, entry in commit.labels.items() if case not in self._without):
            for name, value in self._sums.items():
                more = getattr(entry, name)
                self._sums[name] = None if value is None or more is None else value + more

    @property
    def total(self) -> AnnotationCost:
        """The sum so far."""
        voxels, foreground, contour = self._sums.values()
        counts = (len(self._regions), len(self._cases), int(voxels or 0))
        foreground = None if foreground is None else int(foreground)
        return AnnotationCost(*counts, foreground, None if contour is None else round(contour, 3), self._minutes)


def total_cost(commits: Iterable[Commit], without: Collection[str] = ()) -> AnnotationCost:
    """Return the sum of the cost of ``commits``, see `CostSoFar`."""
    cost = CostSoFar(without)
    for commit in commits:
        cost.add(commit)
    return cost.total


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
            commit = _commit_from_json(entry)
            if commit.number != int(path.stem) or (schema in _SEALED and not (SEAL in entry and is_sealed(entry))):
                raise ValueError(path)
            return commit
    except (ValueError, KeyError, TypeError) as error:
        raise CampaignError(f"The ledger's entry {path} cannot be read: restore it from a backup.") from error
    raise CampaignError(f"{path} has schema {schema}, this version reads {SCHEMA}: update nnunet-al.")


def commit_to_json(commit: Commit) -> dict[str, Any]:
    """Return a commit as its entry holds it, with a checksum."""
    return seal({"schema": SCHEMA, **asdict(commit)})


def _commit_from_json(entry: dict[str, Any]) -> Commit:
    known = {column.name: entry[column.name] for column in fields(Commit) if column.name in entry}
    regions = tuple(Region(region["case"], as_box(region["box"])) for region in entry["regions"])
    labels = {case: LabelEntry(**volume) for case, volume in entry["labels"].items()}
    return Commit(**known | {"regions": regions, "labels": labels, "disagreements": tuple(entry["disagreements"])})
