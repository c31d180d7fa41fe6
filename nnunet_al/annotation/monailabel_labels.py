"""Labels that readers submitted to MONAI Label: files, readers, and whether they count as reviewed."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from nnunet_al.annotation.grids import Grid
from nnunet_al.annotation.volumes import read_segmentation, stem_of
from nnunet_al.errors import ReturnError

DATASTORE = "datastore_v2.json"
FINAL = "final"
_VERSION = re.compile(r"version_(\d+)")
_DEFAULT_USER = "user-xyz"  # default user name of 3D Slicer's module
_NOT_IN_FILE_NAMES = re.compile(r"[/\\\x00-\x1f]")
_READER_LENGTH = 64
_ATTEMPTS, _PAUSE_SECONDS = 5, 0.2


@dataclass(frozen=True)
class MonaiLabelFile:
    """A label submitted to MONAI Label.

    Attributes
    ----------
    case : MONAI Label's id of the image, which is the case's name
    path : the label file, as MONAI Label stored it
    reader : the Client/User-ID of the submission, up to 64 characters that are valid in file names; None if not entered
    minutes : the reader's time, if a program sent ``minutes``; MONAI Label's own clients do not
    reviewed : True, because submitting is explicit, unless a reviewer flagged the label or its content is ambiguous
    names : voxel value -> segment name as sent by the client, for files without names; None if nothing was sent
    remarks : sentences on unusual facts, including the reason if ``reviewed`` is False
    """

    case: str
    path: Path
    reader: str | None
    minutes: float | None
    reviewed: bool
    names: Mapping[int, str] | None = None
    remarks: tuple[str, ...] = ()


def returned_labels(folder: Path, grids: Mapping[str, Grid] | None = None) -> list[MonaiLabelFile]:
    """Find the labels submitted to the MONAI Label server of ``folder``, sorted by case.

    The files count, ``datastore_v2.json`` only describes them: a label in ``labels/final`` without an entry (the server
    was killed before writing it) counts as submitted, an entry without a file is ignored. If a later version of a label
    (``labels/version_1`` ...) was approved in 3D Slicer's Reviewer module, that version is used. Nothing is moved or
    changed, and label files are read only if the numbers of their segments are ambiguous, and only if they are on the
    grid of their image, where ``grids`` has it.

    Raises ReturnError if ``datastore_v2.json`` is broken.
    """
    objects = _read_objects(folder)
    final_files, grids = _label_files(folder / "labels" / FINAL), grids or {}
    found = []
    for case in sorted({*final_files, *objects}):
        tags = _mapping(_mapping(objects.get(case)).get("labels"))
        grid = grids.get(case)
        label = _approved_version(folder, case, tags, grid) or _final(case, tags, final_files.get(case, []), grid)
        if label is not None:
            found.append(label)
    return found


def _read_objects(folder: Path) -> Mapping[str, Any]:
    path = folder / DATASTORE
    for attempt in range(_ATTEMPTS):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:  # MONAI Label writes the file in place, so it may be incomplete at this moment
            if attempt + 1 < _ATTEMPTS:
                time.sleep(_PAUSE_SECONDS)
                continue
            raise ReturnError(
                f"{path} is broken ({error}): run the same command again when MONAI Label's server has finished saving,"
                " or remove the file; then every label in labels/final counts as submitted."
            ) from error
        if isinstance(content, dict) and isinstance(content.get("objects"), dict):
            return content["objects"]
        break
    raise ReturnError(
        f"{path} is not a datastore of MONAI Label: restore the file of the batch, or remove it; then every label in"
        " labels/final counts as submitted."
    )


def _label_files(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        case = stem_of(path)
        if case and path.is_file() and not path.name.startswith("."):
            files.setdefault(case, []).append(path)
    return files


def _approved_version(folder: Path, case: str, tags: Mapping[str, Any], grid: Grid | None) -> MonaiLabelFile | None:
    approved = [(int(match[1]), tag) for tag in tags if (match := _VERSION.fullmatch(tag)) and _status(tags[tag])[0]]
    for _, tag in sorted(approved, reverse=True):
        wanted = f"{case}{_mapping(tags[tag]).get('ext')}"
        for path in _label_files(folder / "labels" / tag).get(case, []):
            if path.name == wanted:
                return _described(case, path, tags[tag], [f"{case}: {tag} is used, which a reviewer approved."], grid)
    return None


def _final(case: str, tags: Mapping[str, Any], files: list[Path], grid: Grid | None) -> MonaiLabelFile | None:
    if not files:
        return None
    entry = tags.get(FINAL)
    named = [path for path in files if path.name == f"{case}{_mapping(entry).get('ext')}"]
    if named:
        remarks = [
            f"{case}: labels/final/{path.name} is not the label that {DATASTORE} names, and is not read."
            for path in files
            if path not in named
        ]
        return _described(case, named[0], entry, remarks, grid)
    if len(files) == 1:
        remark = f"{case}: {DATASTORE} does not say who submitted the label."
        return _described(case, files[0], None, [remark], grid)
    both = " and ".join(path.name for path in files)
    remark = f"{case}: labels/final holds {both}, and {DATASTORE} names neither: remove all but one."
    return MonaiLabelFile(case, files[0], None, None, False, None, (remark,))


def _described(case: str, path: Path, entry: Any, remarks: list[str], grid: Grid | None) -> MonaiLabelFile:
    info = _mapping(_mapping(entry).get("info"))
    _, flagged, comment = _status(entry)
    if flagged:
        said = f' ("{comment}")' if comment else ""
        remarks = [*remarks, f"{case}: a reviewer flagged the label{said}: submit it again, or have it approved."]
    names, doubt = _names(info.get("label_info"), path, grid)
    if doubt:
        remarks = [*remarks, f"{case}: {doubt}"]
    reader = _NOT_IN_FILE_NAMES.sub("_", _text(info.get("client_id")) or _text(info.get("user")))[:_READER_LENGTH]
    return MonaiLabelFile(
        case=case,
        path=path,
        reader=None if reader in ("", _DEFAULT_USER) else reader,
        minutes=_minutes(info.get("minutes")),
        reviewed=not flagged and doubt is None,
        names=names,
        remarks=tuple(remarks),
    )


def _status(entry: Any) -> tuple[bool, bool, str]:
    """Return whether a reviewer approved a label, whether one flagged it, and the comment."""
    meta = _mapping(_mapping(_mapping(entry).get("info")).get("segmentationMeta"))
    status = _text(meta.get("status")).lower()
    return status == "approved", status == "flagged", " ".join(_text(meta.get("comment")).split())


def _names(label_info: Any, path: Path, grid: Grid | None) -> tuple[dict[int, str] | None, str | None]:
    """Return the names of the voxel values, and a sentence if they are ambiguous.

    3D Slicer's module numbers all segments in ``idx``, but does not export a segment called "background" and stores the
    others as 1, 2, 3 ...: then ``idx`` has a gap, and only the voxels show whether they have these numbers.
    """
    if not isinstance(label_info, list) or not label_info:
        return None, None
    pairs = [(_mapping(item).get("idx"), _text(_mapping(item).get("name"))) for item in label_info]
    numbers = [number for number, _ in pairs if isinstance(number, int) and not isinstance(number, bool)]
    if len(set(numbers)) != len(pairs) or not all(name for _, name in pairs):
        return None, None
    by_idx = {number: name for number, (_, name) in zip(numbers, pairs, strict=True)}
    by_place = {place: name for place, (_, name) in enumerate(pairs, 1)}
    if by_idx == by_place or numbers != sorted(numbers):
        return by_idx, None
    try:
        file = read_segmentation(path, grid)
    except ReturnError:  # reported later, when the label is read for its voxels
        return by_idx, None
    if file.names is not None:
        return None, None
    values = {int(value) for layer in file.layers for value in np.unique(SimpleITK.GetArrayViewFromImage(layer))} - {0}
    as_stored = [names for names in (by_idx, by_place) if values <= set(names)]
    if len(as_stored) == 2 and any(by_idx[value] != by_place[value] for value in values):
        sentence = "the numbers of its segments have gaps, so their names are ambiguous: remove the segment called"
        return None, f'{sentence} "background" and submit it again, or submit it as .seg.nrrd.'
    return as_stored[0] if as_stored else by_idx, None


def _minutes(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < math.inf:
        return None
    return float(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
