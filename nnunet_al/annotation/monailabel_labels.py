"""What readers submitted to MONAI Label: the labels in its folder, whose they are and whether they may be taken."""

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

from nnunet_al.annotation.volumes import read_segmentation, stem_of
from nnunet_al.errors import ReturnError

DATASTORE = "datastore_v2.json"
FINAL = "final"
_VERSION = re.compile(r"version_(\d+)")
_NOBODY = "user-xyz"  # what the module of 3D Slicer calls everybody who did not enter a name
_NOT_IN_NAMES = re.compile(r"[/\\\x00-\x1f]")
_READER_LENGTH = 64
_ATTEMPTS, _PAUSE_SECONDS = 5, 0.2


@dataclass(frozen=True)
class MonaiLabelFile:
    """A label that somebody submitted to MONAI Label.

    Attributes
    ----------
    case : MONAI Label's id of the image, which is the case's name
    path : the label file, as MONAI Label stored it
    reader : the Client/User-ID with which it was submitted, up to 64 characters that may stand in a file's name; None
        where nobody entered one
    minutes : the reader's time, where a program sent ``minutes`` along; MONAI Label's own clients do not
    reviewed : submitting a label is an explicit act, so True, unless a reviewer flagged it or it cannot be told what to
        take
    names : voxel value -> segment name as the client sent it, for a file that itself names nothing; None where nothing
        was sent
    remarks : sentences on what is unusual, the reason if ``reviewed`` is False among them
    """

    case: str
    path: Path
    reader: str | None
    minutes: float | None
    reviewed: bool
    names: Mapping[int, str] | None = None
    remarks: tuple[str, ...] = ()


def returned_labels(folder: Path) -> list[MonaiLabelFile]:
    """Find what was submitted to the MONAI Label server of ``folder``, sorted by case.

    The files count, ``datastore_v2.json`` explains them: a label in ``labels/final`` without an entry (the server was
    killed before it wrote one) was submitted all the same, an entry without its file is nothing. Where the Reviewer
    module of 3D Slicer approved a later version of a label (``labels/version_1`` ...), that version is taken.
    Nothing is moved or changed, and the labels themselves are read only where the numbers of segments are in doubt.

    Raises
    ------
    ReturnError
        if ``datastore_v2.json`` is broken.
    """
    objects = _read_objects(folder)
    final_files = _label_files(folder / "labels" / FINAL)
    found = []
    for case in sorted({*final_files, *objects}):
        tags = _mapping(_mapping(objects.get(case)).get("labels"))
        label = _approved_version(folder, case, tags) or _final(case, tags, final_files.get(case, []))
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
        except ValueError as error:  # MONAI Label writes the file in place: it may be half written just now
            if attempt + 1 < _ATTEMPTS:
                time.sleep(_PAUSE_SECONDS)
                continue
            raise ReturnError(
                f"{path} is broken ({error}): run the same command again when MONAI Label's server has finished saving,"
                " or else take the file away, and every label in labels/final counts as submitted."
            ) from error
        if isinstance(content, dict) and isinstance(content.get("objects"), dict):
            return content["objects"]
        break
    raise ReturnError(
        f"{path} is not a datastore of MONAI Label: put the file back that the batch came with, or take it away, and"
        " every label in labels/final counts as submitted."
    )


def _label_files(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        case = stem_of(path)
        if case and path.is_file() and not path.name.startswith("."):
            files.setdefault(case, []).append(path)
    return files


def _approved_version(folder: Path, case: str, tags: Mapping[str, Any]) -> MonaiLabelFile | None:
    approved = [(int(match[1]), tag) for tag in tags if (match := _VERSION.fullmatch(tag)) and _status(tags[tag])[0]]
    for _, tag in sorted(approved, reverse=True):
        wanted = f"{case}{_mapping(tags[tag]).get('ext')}"
        for path in _label_files(folder / "labels" / tag).get(case, []):
            if path.name == wanted:
                return _described(case, path, tags[tag], [f"{case}: {tag}, which a reviewer approved, is taken."])
    return None


def _final(case: str, tags: Mapping[str, Any], files: list[Path]) -> MonaiLabelFile | None:
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
        return _described(case, named[0], entry, remarks)
    if len(files) == 1:
        return _described(case, files[0], None, [f"{case}: {DATASTORE} does not say who submitted the label."])
    both = " and ".join(path.name for path in files)
    remark = f"{case}: labels/final holds {both}, and {DATASTORE} names neither: take away all but one."
    return MonaiLabelFile(case, files[0], None, None, False, None, (remark,))


def _described(case: str, path: Path, entry: Any, remarks: list[str]) -> MonaiLabelFile:
    info = _mapping(_mapping(entry).get("info"))
    _, flagged, comment = _status(entry)
    if flagged:
        said = f' ("{comment}")' if comment else ""
        remarks = [*remarks, f"{case}: a reviewer flagged the label{said}: submit it again, or have it approved."]
    names, doubt = _names(info.get("label_info"), path)
    if doubt:
        remarks = [*remarks, f"{case}: {doubt}"]
    reader = _NOT_IN_NAMES.sub("_", _text(info.get("client_id")) or _text(info.get("user")))[:_READER_LENGTH]
    return MonaiLabelFile(
        case=case,
        path=path,
        reader=None if reader in ("", _NOBODY) else reader,
        minutes=_minutes(info.get("minutes")),
        reviewed=not flagged and doubt is None,
        names=names,
        remarks=tuple(remarks),
    )


def _status(entry: Any) -> tuple[bool, bool, str]:
    """Whether a reviewer approved a label, flagged it, and the comment."""
    meta = _mapping(_mapping(_mapping(entry).get("info")).get("segmentationMeta"))
    status = _text(meta.get("status")).lower()
    return status == "approved", status == "flagged", " ".join(_text(meta.get("comment")).split())


def _names(label_info: Any, path: Path) -> tuple[dict[int, str] | None, str | None]:
    """The names of the voxel values, and the sentence that says why they cannot be told.

    3D Slicer's module counts all segments for ``idx``, but one called "background" is not exported, and the others are
    stored as 1, 2, 3 ...: then ``idx`` has a gap, and only the voxels tell whether it is the number that they bear.
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
        file = read_segmentation(path)
    except ReturnError:  # whoever reads the label for its voxels says so
        return by_idx, None
    if file.names is not None:
        return None, None
    values = {int(value) for layer in file.layers for value in np.unique(SimpleITK.GetArrayViewFromImage(layer))} - {0}
    as_stored = [names for names in (by_idx, by_place) if values <= set(names)]
    if len(as_stored) == 2 and any(by_idx[value] != by_place[value] for value in values):
        sentence = "the numbers of its segments have gaps, so that it cannot be told which is which: remove the segment"
        return None, f'{sentence} called "background" and submit it again, or submit it as .seg.nrrd.'
    return as_stored[0] if as_stored else by_idx, None


def _minutes(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < math.inf:
        return None
    return float(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
