"""Read each image and label once and check it before a campaign uses it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.checksums import is_sealed, seal
from nnunet_al.errors import DatasetError
from nnunet_al.files import hash_array, hash_file, hash_json, read_json, write_json
from nnunet_al.nnunet.case_facts import CaseFacts
from nnunet_al.nnunet.grid_difference import grid_difference
from nnunet_al.nnunet.intact_files import read_intact
from nnunet_al.nnunet.label_io import one_channel
from nnunet_al.nnunet.raw_dataset import CaseFiles, RawDataset
from nnunet_al.nnunet.readers import choose_reader
from nnunet_al.nnunet.sidecars import check_sidecars
from nnunet_al.nnunet.workers import run_jobs
from nnunet_al.pool.boxes import as_box
from nnunet_al.text import first_names
from nnunet_al.user_files import user_errors

_CACHE_VERSION = 2
_END_BYTES = 4096


@dataclass(frozen=True)
class CaseRequirements:
    """The requirements that every case of a dataset must meet."""

    n_channels: int
    label_values: tuple[int, ...]
    ignore: int | None


def requirements(dataset: RawDataset) -> CaseRequirements:
    """Read the requirements from ``dataset.json``."""
    return CaseRequirements(len(dataset.channels), dataset.label_values, dataset.ignore_label)


def find_reader(dataset: RawDataset) -> str:
    """Name nnU-Net's reader for the dataset: the declared one, or the first one that can read the first image.

    Raises DatasetError if none of nnU-Net's readers can open that image.
    """
    first = next(iter(dataset.cases.values()))
    image = first.images[0]
    check_sidecars(first)
    try:
        return choose_reader(dataset.dataset_json, image).__name__
    except RuntimeError:
        with user_errors(image):
            image.open("rb").close()
        raise DatasetError(
            f"{image} cannot be read by any of nnU-Net's readers for {dataset.file_ending}: replace the file if it is "
            "broken, or correct file_ending in dataset.json."
        ) from None


def verify_case(case: str, files: CaseFiles, required: CaseRequirements, reader: str) -> CaseFacts:
    """Read the files of one case with nnU-Net's ``reader`` and check them against each other.

    Raises DatasetError if a file cannot be read, holds NaN or infinity, has another grid than the others, if the image
    is zero everywhere, or if the label has several channels or values that ``dataset.json`` does not declare.
    """
    from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name
    from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask, get_bbox_from_mask

    io = recursive_find_reader_writer_by_name(reader)()
    channels, properties = [], []
    check_sidecars(files)
    for file in files.images:
        image_C_xyz, found = read_intact(file, lambda path: io.read_images((path,)))
        channels.append(image_C_xyz)
        properties.append(found)
        _check_same_grid(file, image_C_xyz, found, files.images[0], channels[0], properties[0])
    image_C_xyz = np.concatenate(channels) if len(channels) > 1 else channels[0]
    if len(image_C_xyz) != required.n_channels:
        raise DatasetError(
            f"{files.images[0]} gives {len(image_C_xyz)} channel(s), but dataset.json declares {required.n_channels}: "
            "correct channel_names or the file."
        )
    nonzero_xyz = create_nonzero_mask(image_C_xyz)
    if not nonzero_xyz.any():
        raise DatasetError(
            f"{files.images[0]} is zero everywhere, so no voxel is left after cropping: remove case {case}."
        )
    crop_box = as_box(get_bbox_from_mask(nonzero_xyz))
    label_hash, label_state = None, "none"
    if files.label is not None:
        label_1_xyz, found = read_intact(files.label, io.read_seg)
        label_1_xyz = one_channel(files.label, label_1_xyz)
        _check_same_grid(files.label, label_1_xyz, found, files.images[0], channels[0], properties[0])
        _check_values(files.label, label_1_xyz, required)
        label_hash = hash_array(label_1_xyz.astype(np.int16))
        label_state = _label_state(label_1_xyz[0], nonzero_xyz, required.ignore)
    return CaseFacts(
        case=case,
        reader=reader,
        image_hashes=tuple(hash_file(file) for file in files.images),
        label_hash=label_hash,
        label_state=label_state,
        raw_shape=tuple(int(length) for length in image_C_xyz.shape[1:]),
        spacing_mm=tuple(float(length) for length in properties[0]["spacing"]),
        crop_box=crop_box,
    )


def verify_dataset(
    dataset: RawDataset,
    workers: int = 1,
    cache_file: Path | None = None,
    cases: Mapping[str, CaseFiles] | None = None,
    log: Path | None = None,
    defer_write: Callable[[Callable[[], None]], object] = lambda write: write(),
    before_reading: Callable[[], object] = lambda: None,
) -> dict[str, CaseFacts]:
    """Verify all cases (or those given) and return their facts, sorted by case.

    A case is not read again if the sizes, times, first and last bytes of its files are those in ``cache_file``. The
    cache is written only if every case is correct, so bad input changes no file.

    ``defer_write`` receives the function that writes the cache, so that the caller can call it after further checks.
    ``before_reading`` is called before any image is read, for example to take a lock; the cache is read again when it
    returns.

    Raises DatasetError for the first incorrect case in sorted order; the message counts the others.
    """
    chosen = dict(sorted((dataset.cases if cases is None else cases).items()))
    rules = hash_json([_CACHE_VERSION, asdict(requirements(dataset)), _reader_choice(dataset)])
    stamps = {case: _stamp(files) for case, files in chosen.items()}
    cached, facts = _read_cache(cache_file, rules, stamps)
    if len(facts) == len(chosen):
        return facts
    before_reading()
    cached, facts = _read_cache(cache_file, rules, stamps)
    unread = [case for case in chosen if case not in facts]
    if unread:
        reader = find_reader(dataset)
        jobs = [(case, chosen[case], requirements(dataset), reader) for case in unread]
        sizes = [sum(n_bytes for _, n_bytes, *_ in stamps[case]) for case in unread]  # about one byte per voxel
        results = run_jobs(_facts_or_error, jobs, workers, "checking images", log, sizes)
        problems = [result for result in results if isinstance(result, str)]
        if problems:
            others = len(problems) - 1
            more = f" ({others} other case{'s have' if others > 1 else ' has'} problems too.)" if others else ""
            raise DatasetError(problems[0] + more)
        facts.update(zip(unread, results, strict=True))
    if cache_file is not None and unread:
        kept = {case: entry for case, entry in cached.items() if case not in stamps}
        new = {case: {"files": stamps[case], "facts": asdict(facts[case])} for case in chosen}
        defer_write(partial(write_json, cache_file, seal({"rules": rules, "cases": {**kept, **new}})))
    return {case: facts[case] for case in chosen}


def _facts_or_error(case: str, files: CaseFiles, required: CaseRequirements, reader: str) -> CaseFacts | str:
    try:
        return verify_case(case, files, required, reader)
    except DatasetError as error:
        return str(error)


def _check_same_grid(
    file: Path, array: np.ndarray, found: dict[str, Any], first_file: Path, first: np.ndarray, wanted: dict[str, Any]
) -> None:
    if array.shape[1:] != first.shape[1:]:
        raise DatasetError(
            f"{file} has {array.shape[1:]} voxels, but {first_file} has {first.shape[1:]}: bring both to one grid."
        )
    if difference := grid_difference(found, wanted, array.shape[1:]):
        name, value, other = difference
        raise DatasetError(
            f"The {name} of {file} ({_short(value)}) is not that of {first_file} ({_short(other)}): copy it from "
            "the image if the voxels do coincide, or resample."
        )


def _short(value: Any) -> str:
    return "none" if value is None else ", ".join(f"{number:.5g}" for number in np.ravel(value))


def _check_values(file: Path, label_1_xyz: np.ndarray, required: CaseRequirements) -> None:
    allowed = set(required.label_values) | ({required.ignore} if required.ignore is not None else set())
    unexpected = [value for value in np.unique(label_1_xyz).tolist() if value not in allowed]
    if unexpected:
        shown = first_names([f"{value:.9g}" for value in unexpected], 5)
        if any(value % 1 for value in unexpected):
            raise DatasetError(
                f"{file} holds the label value(s) {shown}, which are no whole numbers: save it again as integers, and "
                "if it was resampled, by the nearest neighbour."
            )
        raise DatasetError(
            f"{file} holds the label value(s) {shown}, but dataset.json declares {sorted(allowed)}: correct either."
        )


def _label_state(label_xyz: np.ndarray, nonzero_xyz: np.ndarray, ignore: int | None) -> str:
    if ignore is None or not (label_xyz == ignore).any():
        return "complete"
    return "unannotated" if (label_xyz[nonzero_xyz] == ignore).all() else "partial"


def _reader_choice(dataset: RawDataset) -> list[Any]:
    return [dataset.file_ending, dataset.dataset_json.get("overwrite_image_reader_writer")]


def _stamp(files: CaseFiles) -> list[list[Any]]:
    return [_stamp_of(path) for path in files.all]


def _stamp_of(path: Path) -> list[Any]:
    with user_errors(path):
        status = path.stat()
        return [str(path), status.st_size, status.st_mtime_ns, _hash_of_ends(path, status.st_size)]


def _hash_of_ends(path: Path, n_bytes: int) -> str:
    """Hash the first and the last bytes of a file, which hold the header and the checksum of compressed data.

    Times alone do not reveal a replaced file if a copy keeps them or the file system counts in seconds.
    """
    with path.open("rb") as file:
        first = file.read(_END_BYTES)
        file.seek(-min(_END_BYTES, n_bytes), os.SEEK_END)
        return hashlib.sha256(first + file.read()).hexdigest()[:16]


def _read_cache(
    cache_file: Path | None, rules: str, stamps: Mapping[str, list[list[Any]]]
) -> tuple[dict[str, Any], dict[str, CaseFacts]]:
    """Return the entries of all cached cases, and the facts of those in ``stamps`` whose files are unchanged."""
    try:
        content = read_json(cache_file) if cache_file is not None else {}
        cached = content["cases"] if content.get("rules") == rules and is_sealed(content) else {}
    except (
        OSError,
        ValueError,
        AttributeError,
        KeyError,
        TypeError,
    ):  # absent or of another version: read the images again
        cached = {}
    known = [case for case, stamp in stamps.items() if cached.get(case, {}).get("files") == stamp]
    return cached, {case: CaseFacts.from_json(cached[case]["facts"]) for case in known}
