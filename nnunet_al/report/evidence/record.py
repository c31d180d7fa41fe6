"""What a round's model says of its batch, as a value and as files in the round's folder."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_al.campaign.folders import CampaignFolder, RoundFolder
from nnunet_al.files import hash_file, hash_json, read_arrays, read_json, storage_errors, write_arrays, write_json
from nnunet_al.pool.boxes import Region, as_box
from nnunet_al.report.drawing.selection_picture import Panel

_VERSION = 1  # of what is kept: raise it when the numbers would come out otherwise
_ARRAYS = ("image_yx", "prediction_yx", "reference_yx", "uncertainty_yx")


@dataclass(frozen=True)
class BatchRegion:
    """A region of the batch; see `batch_overlays.RegionError` and `error_vs_uncertainty.mean_entropies` (nats)."""

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
    """A region on the map of embeddings: its role (`embedding_map.ROLES`) and its place."""

    region: Region
    role: str
    x: float
    y: float


@dataclass(frozen=True)
class Evidence:
    """What one round's model says of its batch.

    Attributes
    ----------
    round : number of the round
    batch : its regions by rank, without those of cases that were withdrawn
    panels : pictures of its first regions
    points : the map of embeddings; empty where there is none
    of_role : role -> how many regions of the campaign have it, on the map or not
    redundancy : fields of `redundancy.Redundancy`; None where the batch is empty
    """

    round: int
    batch: tuple[BatchRegion, ...]
    panels: tuple[Panel, ...]
    points: tuple[MapPoint, ...]
    of_role: dict[str, int]
    redundancy: dict[str, Any] | None


def evidence_key(folder: CampaignFolder, round_: RoundFolder) -> str:
    """Hash all that the evidence of a round depends on but its checkpoint, which may have been removed since."""
    ledger = [hash_file(path) for path in sorted(folder.ledger.glob("*.json"))]
    files = (folder.decisions, folder.root / "regions.npz", round_.batch, round_.stages / "train.json")
    return hash_json([_VERSION, ledger, *(hash_file(path) if path.is_file() else None for path in files)])


def _stamp(checkpoint: Path) -> list[int]:
    status = checkpoint.stat()
    return [status.st_size, status.st_mtime_ns]


def _files(round_: RoundFolder) -> tuple[Path, Path]:
    return round_.root / "report" / "evidence.json", round_.root / "report" / "panels.npz"


def read_evidence(round_: RoundFolder, key: str, checkpoint: Path | None, pictures: int) -> Evidence | None:
    """Return what is kept in a round's folder, with its first ``pictures`` panels.

    None where there is nothing of this ``key`` and ``checkpoint`` (if that is still there), where it is damaged, or
    where it has fewer panels.
    """
    numbers, arrays = _files(round_)
    try:
        content = read_json(numbers)
        if content["key"] != key or (checkpoint is not None and content["checkpoint"] != _stamp(checkpoint)):
            return None
        drawn = read_arrays(arrays)
        panels = [
            Panel(
                **{**fields, "box": tuple(map(tuple, fields["box"])), "spacing_yx": tuple(fields["spacing_yx"])},
                **{name: drawn.get(f"{index}_{name}") for name in _ARRAYS},  # type: ignore[arg-type]
            )
            for index, fields in enumerate(content["panels"])
        ]
        batch = [BatchRegion(**{**entry, "region": _region(entry["region"])}) for entry in content["batch"]]
        points = [MapPoint(_region(place), role, x, y) for place, role, x, y in content["points"]]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None  # of another version, or half of it is gone: it is made anew
    if len(panels) < min(pictures, len(batch)):
        return None
    evidence = Evidence(
        round_.number, tuple(batch), tuple(panels), tuple(points), content["of_role"], content["redundancy"]
    )
    return replace(evidence, panels=evidence.panels[:pictures])


def write_evidence(round_: RoundFolder, key: str, checkpoint: Path, evidence: Evidence) -> None:
    """Keep what was computed from ``checkpoint`` and what ``key`` stands for in the round's folder.

    Raises
    ------
    StorageError
        if it cannot be written.
    """
    numbers, arrays = _files(round_)
    content = {
        "key": key,
        "checkpoint": _stamp(checkpoint),
        "batch": [{**asdict(entry), "region": _plain(entry.region)} for entry in evidence.batch],
        "panels": [
            {"title": p.title, "box": p.box, "spacing_yx": p.spacing_yx, "score": p.score} for p in evidence.panels
        ],
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
