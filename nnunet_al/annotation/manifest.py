"""``manifest.json``: the handed-out cases and the positions of their regions, for the import and other programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.annotation.grids import Grid
from nnunet_al.annotation.segments import Segment
from nnunet_al.errors import CampaignError
from nnunet_al.files import hash_array, read_json
from nnunet_al.pool.boxes import Box

SCHEMA = 1
MANIFEST = "manifest.json"
_KEYS = ("format", "campaign", "dataset", "round", "strategy", "seed", "unit", "readings", "model", "segments", "cases")
_CASE_KEYS = ("case", "images", "geometry", "presegmentation", "regions")
_GEOMETRY = ("size_ijk", "spacing_mm", "origin_mm", "direction")


@dataclass(frozen=True)
class HandedRegion:
    """A region of a batch: its rank, from 1, its box of voxels, and its score, None without a model."""

    rank: int
    box_kji: Box
    score: float | None


@dataclass(frozen=True)
class CaseHandOut:
    """One case of a batch.

    Attributes
    ----------
    case : its id
    images : its image files, one per channel
    image_hashes : SHA-256 of each
    grid : the image's voxel grid
    labels_kji : the pre-segmentation, zeros without a model
    regions : the regions to annotate
    """

    case: str
    images: tuple[Path, ...]
    image_hashes: tuple[str, ...]
    grid: Grid
    labels_kji: np.ndarray
    regions: tuple[HandedRegion, ...]


@dataclass(frozen=True)
class Batch:
    """Properties of a whole batch.

    ``model`` is the hash of the checkpoint of the pre-segmentations, ``readings`` the number of readings per region.
    """

    campaign: str
    dataset: str
    round: int
    strategy: str
    seed: int
    unit: str
    segments: tuple[Segment, ...]
    model: str | None
    readings: int


def case_entry(
    handed: CaseHandOut, images: Sequence[str], presegmentations: Sequence[str], outlines: Sequence[str]
) -> dict[str, Any]:
    """Return the manifest's entry of one case, with the relative paths (with ``/``) of its files in the folder.

    Boxes are half-open and in the order i, j, k; ``corners_mm`` are a box's eight outer corners in LPS, i fastest; the
    pre-segmentation's ``sha256`` is :func:`hash_array` of its voxels (k, j, i) as int32.
    """
    return {
        "case": handed.case,
        "images": [{"file": file, "sha256": sha256} for file, sha256 in zip(images, handed.image_hashes, strict=True)],
        "geometry": {name: getattr(handed.grid, name) for name in _GEOMETRY},
        "presegmentation": {"files": list(presegmentations), "sha256": hash_array(handed.labels_kji.astype(np.int32))},
        "outlines": list(outlines),
        "regions": [
            {
                "rank": region.rank,
                "box_ijk": region.box_kji[::-1],
                "corners_mm": handed.grid.box_corners_mm(region.box_kji),
                "score": region.score,
            }
            for region in handed.regions
        ],
    }


def batch_facts(batch: Batch) -> dict[str, Any]:
    """Return the properties that identify a batch."""
    return {name: getattr(batch, name) for name in ("campaign", "dataset", "round", "strategy", "seed", "unit")}


def manifest_of(batch: Batch, entries: Iterable[Mapping[str, Any]], kind: str = "folder") -> dict[str, Any]:
    """Return the whole manifest; ``kind`` is the folder's layout, ``folder`` (ours) or ``monailabel``."""
    return {
        "schema": SCHEMA,
        "format": kind,
        **batch_facts(batch),
        "readings": batch.readings,
        "model": batch.model,
        "segments": [asdict(segment) for segment in batch.segments],
        "cases": list(entries),
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a batch folder.

    Raises CampaignError if it is missing, broken, or written by a later version.
    """
    path = folder / MANIFEST
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise CampaignError(f"{path} is missing: restore the batch folder as it was handed out.") from None
    except (OSError, ValueError) as error:
        raise CampaignError(f"{path} cannot be read ({error}): restore the file as it was handed out.") from error
    if isinstance(content, dict) and content.get("schema", SCHEMA) != SCHEMA:
        raise CampaignError(f"{path} has schema {content['schema']!r} and not {SCHEMA}: use the version that wrote it.")
    if not _is_complete(content):
        raise CampaignError(f"{path} is an incomplete manifest: restore the file as it was handed out.")
    return content


def _is_complete(content: Any) -> bool:
    if not isinstance(content, dict) or any(key not in content for key in ("schema", *_KEYS)):
        return False
    cases = content["cases"]
    return isinstance(cases, list) and all(
        isinstance(entry, dict)
        and all(key in entry for key in _CASE_KEYS)
        and all(isinstance(region, dict) and {"rank", "box_ijk"} <= region.keys() for region in entry["regions"])
        for entry in cases
    )


def grid_in(entry: Mapping[str, Any]) -> Grid:
    """Return the grid of a case in the manifest."""
    return Grid(**{name: tuple(entry["geometry"][name]) for name in _GEOMETRY})
