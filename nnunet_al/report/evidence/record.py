"""The evidence of a round, as a value and as files in the round's folder."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_al.campaign.commits import CORRECTION, Commit, asked_regions, read_commits
from nnunet_al.campaign.decisions import Decisions
from nnunet_al.campaign.folders import CampaignFolder, RoundFolder
from nnunet_al.campaign.pool_state import pool_of_round
from nnunet_al.campaign.remaining_data import KEPT
from nnunet_al.files import hash_file, hash_json, read_arrays, read_json, storage_errors, write_arrays, write_json
from nnunet_al.pool.boxes import Region, as_box
from nnunet_al.report.drawing.selection_picture import Panel

_VERSION = 2  # of the files: raise it when the same inputs would give other numbers
# decisions that may change
_LATER = (
    *("test_cases", "withdrawn_cases", "left_out_cases", "pool_changes", "hashes", "groups"),
    *("regions_checksum", "plan_checksum", "checksum"),
)
_FIELDS = ("title", "box", "spacing_yx", "score", "map_name")
_ARRAYS = ("image_yx", "prediction_yx", "reference_yx", "uncertainty_yx", "map_yx")
_CORRECTED = (
    "Labels of these cases were corrected after this was computed; the model is gone, so that labels and errors are "
    "shown as they were before."
)


@dataclass(frozen=True)
class BatchRegion:
    """A region of the batch: how sure the round's model was of it, and how its prediction differs from the annotation.

    Regions of the random part of the pool have the same values, with all of their voxels and the dataset's label.

    Attributes
    ----------
    rank : place of the region in its batch, from 1
    region : the region
    score : the strategy's score; None where it has none
    entropy : mean predictive entropy in nats (`error_vs_uncertainty.mean_entropies`); None until it is computed
    error : see `batch_overlays.region_error`; None where nothing of the region is newly annotated
    misclassified : share of the new voxels whose label is not the predicted one; None likewise
    new_voxels : voxels that were annotated in this round, and not before
    foreground : whether any class is in the annotation or the prediction of the new voxels
    """

    rank: int
    region: Region
    score: float | None
    entropy: float | None
    error: float | None
    misclassified: float | None
    new_voxels: int
    foreground: bool


@dataclass(frozen=True)
class MapPoint:
    """A region on the map of embeddings: its role (`embedding_map.ROLES`) and its coordinates."""

    region: Region
    role: str
    x: float
    y: float


@dataclass(frozen=True)
class Evidence:
    """Evidence of one round: its model's view of its batch.

    Attributes
    ----------
    round : number of the round
    batch : its regions by rank, without those of cases that were withdrawn
    panels : pictures of its first regions
    points : the map of embeddings; empty where there is none
    of_role : role -> number of regions of the campaign, on the map or not
    pool : regions of a random part of the pool (`pool_sample`); empty where their labels are not known
    redundancy : fields of `redundancy.Redundancy`; None where the batch is empty
    remark : a sentence where labels were corrected after the evidence was computed, else empty
    """

    round: int
    batch: tuple[BatchRegion, ...]
    panels: tuple[Panel, ...]
    points: tuple[MapPoint, ...]
    of_role: dict[str, int]
    redundancy: dict[str, Any] | None
    remark: str = ""
    pool: tuple[BatchRegion, ...] = ()


@dataclass(frozen=True)
class Key:
    """Two hashes of everything that the evidence of a round depends on, without its checkpoint, which may be removed.

    ``round`` stands for the batch, the training, the decisions and the cases that were in the pool then and are still
    there; ``labels`` for the annotations of the batch as they are now.
    """

    round: str
    labels: str


def evidence_key(folder: CampaignFolder, round_: RoundFolder) -> Key:
    """Hash the inputs of a round's evidence; additions of later rounds to pool and ledger do not change the hashes."""
    decided = Decisions.load(folder.decisions)
    known = pool_of_round(decided, round_.number)
    lasting = {name: value for name, value in read_json(folder.decisions).items() if name not in _LATER}
    lasting["pool_cases"] = sorted((case, decided.hashes.get(case)) for case in known)
    files = (round_.batch, round_.stages / "train.json")
    cases = {region.case for region in asked_regions(round_)} & known
    labels = [
        [commit.number, commit.source, {case: commit.labels[case].sha256 for case in sorted(cases & {*commit.labels})}]
        for commit in label_commits(read_commits(folder.ledger), round_.number)
        if cases & {*commit.labels}
    ]
    return Key(
        hash_json([_VERSION, lasting, *(hash_file(path) if path.is_file() else None for path in files)]),
        hash_json(labels),
    )


def label_commits(commits: Sequence[Commit], number: int) -> list[Commit]:
    """Return the commits that hold the labels annotated up to a round, with corrections of any time."""
    return [commit for commit in commits if commit.counts and (commit.round <= number or commit.source == CORRECTION)]


def _stamp(checkpoint: Path) -> list[int]:
    status = checkpoint.stat()
    return [status.st_size, status.st_mtime_ns]


def _files(round_: RoundFolder) -> tuple[Path, Path]:
    return round_.root / KEPT / "evidence.json", round_.root / KEPT / "panels.npz"


def read_evidence(round_: RoundFolder, key: Key, checkpoint: Path | None, pictures: int) -> Evidence | None:
    """Return the evidence kept in a round's folder, with its first ``pictures`` panels.

    None where there is none for this ``key`` and ``checkpoint``, where it is damaged, or where it has fewer panels.
    Without a checkpoint it cannot be computed again: then fewer panels are accepted, and labels that were corrected
    since are mentioned in its remark.
    """
    numbers, arrays = _files(round_)
    try:
        content = read_json(numbers)
        if content["key"] != key.round:
            return None
        corrected = content["labels"] != key.labels
        if checkpoint is not None and (corrected or content["checkpoint"] != _stamp(checkpoint)):
            return None
        if checkpoint is not None and "pool" not in content:
            return None  # of a version without maps of the strategy and without the pool's random part
        drawn = read_arrays(arrays)
        panels = [
            Panel(
                **{**fields, "box": tuple(map(tuple, fields["box"])), "spacing_yx": tuple(fields["spacing_yx"])},
                classes={int(value): name for value, name in content["classes"].items()},
                **{name: drawn.get(f"{index}_{name}") for name in _ARRAYS},  # type: ignore[arg-type]
            )
            for index, fields in enumerate(content["panels"])
        ]
        batch, pool = (
            [BatchRegion(**{**entry, "region": _region(entry["region"])}) for entry in content.get(name, ())]
            for name in ("batch", "pool")
        )
        points = [MapPoint(_region(place), role, x, y) for place, role, x, y in content["points"]]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None  # of another version or incomplete: it is computed again
    if len(panels) < min(pictures, len(batch)) and checkpoint is not None:
        return None
    return Evidence(
        round_.number,
        tuple(batch),
        tuple(panels[:pictures]),
        tuple(points),
        content["of_role"],
        content["redundancy"],
        _CORRECTED if corrected else "",
        tuple(pool),
    )


def write_evidence(round_: RoundFolder, key: Key, checkpoint: Path, evidence: Evidence) -> None:
    """Keep the evidence computed from ``checkpoint`` and the inputs of ``key`` in the round's folder.

    Raises StorageError if it cannot be written.
    """
    numbers, arrays = _files(round_)
    content = {
        "key": key.round,
        "labels": key.labels,
        "classes": {str(value): name for panel in evidence.panels[:1] for value, name in panel.classes.items()},
        "checkpoint": _stamp(checkpoint),
        "batch": [{**asdict(entry), "region": _plain(entry.region)} for entry in evidence.batch],
        "pool": [{**asdict(entry), "region": _plain(entry.region)} for entry in evidence.pool],
        "panels": [{name: getattr(panel, name) for name in _FIELDS} for panel in evidence.panels],
        "points": [[_plain(point.region), point.role, point.x, point.y] for point in evidence.points],
        "of_role": evidence.of_role,
        "redundancy": evidence.redundancy,
    }
    drawn = {
        f"{index}_{name}": getattr(panel, name)
        for index, panel in enumerate(evidence.panels)
        for name in _ARRAYS
        if getattr(panel, name) is not None
    }
    with storage_errors(numbers):
        numbers.unlink(missing_ok=True)  # it is written last, and says that the arrays beside it are its own
    write_arrays(arrays, **drawn)
    write_json(numbers, content)


def _plain(region: Region) -> list[Any]:
    return [region.case, [list(side) for side in region.box]]


def _region(content: Sequence[Any]) -> Region:
    return Region(content[0], as_box(content[1]))
