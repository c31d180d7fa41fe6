"""A round's view: folders with the files that stock nnU-Net needs, where only changed cases are preprocessed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from nnunet_al.checksums import checksum, is_intact
from nnunet_al.files import hash_json, read_json, write_json
from nnunet_al.nnunet.blosc_files import link_or_copy, open_array, read_pickle
from nnunet_al.nnunet.case_facts import CaseFacts
from nnunet_al.nnunet.environment import Roots
from nnunet_al.nnunet.image_store import StoredImage, ensure_images
from nnunet_al.nnunet.label_preprocessing import LabelJob, label_dependencies, preprocess_label
from nnunet_al.nnunet.raw_dataset import RawDataset
from nnunet_al.nnunet.workers import iterate_jobs
from nnunet_al.pool.boxes import Box

Split = tuple[Sequence[str], Sequence[str]]
"""Training and validation cases."""

RECORD_FILE = "al_preprocessed.json"
"""File beside the preprocessed folders, with hashes of the inputs per folder and case."""

DIFFERENCE_FILE = "plan_diff.json"
"""File beside the plans with the values that a fresh plan would have changed."""

_RECORD_SECONDS = 2  # of work that are lost at most if the process is killed

IGNORE_ADDED = "nnunet_al_ignore_added"
"""Key of a view's ``dataset.json`` that is True if the dataset declares no ignore label and we added one."""


def view_dataset_json(dataset: RawDataset, labels: Mapping[str, Path | None]) -> dict[str, Any]:
    """Return the ``dataset.json`` of a view: the cases in ``labels``, with absolute paths, and an ignore label.

    A case without a label gets nnU-Net's default path for one, which planning does not open.
    """
    content = deepcopy(dataset.dataset_json)
    content["numTraining"] = len(labels)
    if dataset.ignore_label is None:
        content["labels"]["ignore"] = dataset.effective_ignore
        content[IGNORE_ADDED] = True
    expected = dataset.folder.absolute() / "labelsTr"
    content["dataset"] = {
        case: {
            "images": [str(file.absolute()) for file in dataset.cases[case].images],
            "label": str((label or expected / f"{case}{dataset.file_ending}").absolute()),
        }
        for case, label in sorted(labels.items())
    }
    return content


def write_round_view(
    view: Roots,
    dataset: RawDataset,
    labels: Mapping[str, Path | None],
    fingerprint: Mapping[str, Any] | None = None,
    plans: Mapping[str, Any] | None = None,
    fold: int = 0,
    split: Split | None = None,
    member_splits: Sequence[Split] = (),
) -> None:
    """Write ``dataset.json`` and, if given, fingerprint, plans and ``splits_final.json`` into a view.

    Planning needs ``dataset.json`` and the fingerprint; the planner writes the plans itself. ``labels`` are the
    composed labels of the annotated cases; None for a case without a label. Every fold up to ``fold``, the campaign's,
    gets the same ``split``, so that ``-f fold`` finds it; ``member_splits``, of an ensemble, become the folds after it.
    """
    view.create()
    content = view_dataset_json(dataset, labels)
    folder = view.preprocessed / dataset.name
    write_json(view.raw / dataset.name / "dataset.json", content)
    write_json(folder / "dataset.json", content)
    if fingerprint is not None:
        write_json(folder / "dataset_fingerprint.json", fingerprint)
    if plans is not None:
        write_json(folder / f"{plans['plans_name']}.json", plans)
    if split is not None:
        lists = [{"train": sorted(train), "val": sorted(val)} for train, val in [split] * (fold + 1) + [*member_splits]]
        write_json(folder / "splits_final.json", lists)


def preprocess_round(
    view: Roots,
    dataset: RawDataset,
    labels: Mapping[str, Path],
    facts: Mapping[str, CaseFacts],
    plans: Mapping[str, Any],
    configuration: str,
    store: Path,
    previous: Roots | None = None,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    workers: int = 1,
    log: Path | None = None,
) -> list[str]:
    """Preprocess a view, with the same result as nnU-Net's own preprocessing.

    Only cases whose label, image or plans changed are preprocessed; files of the others stay, or are taken from
    ``previous``, the folders of the previous round. The view must hold ``dataset.json``. Files of cases that are no
    longer annotated are removed. ``labels`` are the composed labels of the annotated cases, ``facts`` are of these or
    of more cases, ``store`` is the folder of the stored images, ``boxes`` are annotated boxes per case (raw voxels).

    Returns
    -------
    list[str]
        one sentence per annotated class, region or box that is lost in resampling.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    parent = view.preprocessed / dataset.name
    identifier = PlansManager(dict(plans)).get_configuration(configuration).data_identifier
    folder = parent / identifier
    dataset_json = read_json(parent / "dataset.json")
    del dataset_json["dataset"]  # long, would be sent with every job, and is not used in preprocessing
    cases = sorted(labels)
    _remove_other_cases(folder, set(cases))
    images = ensure_images(
        {case: dataset.cases[case] for case in cases}, facts, plans, configuration, dataset_json, store, workers, log
    )
    rules = label_dependencies(plans, configuration, dataset_json)
    inside = {case: tuple((boxes or {}).get(case, ())) for case in cases}
    inputs = {case: hash_json([checksum(labels[case]), images.key(case), rules, inside[case]]) for case in cases}

    record = read_record(parent)
    known = record.get(identifier, {})
    done = {case: known[case] for case in cases if _is_done(known, case, inputs[case], folder, store)}
    if previous is not None:
        done |= _reuse_previous(previous.preprocessed / dataset.name, identifier, parent, done, inputs, store)
    record[identifier] = done
    write_json(parent / RECORD_FILE, record)
    todo = [case for case in cases if case not in done]
    jobs = []
    for case in todo:
        where = (facts[case], dict(plans), configuration, dataset_json, folder, inside[case])
        jobs.append((LabelJob(dataset.cases[case], labels[case], images[case], *where),))
    sizes = [math.prod(facts[case].raw_shape) for case in todo]
    results = iterate_jobs(preprocess_label, jobs, workers, "preprocessing labels", log, sizes)
    written = time.monotonic()
    try:
        for index, (key, lost) in results:
            case = todo[index]
            of_files = [checksum(path) for path in _label_files(folder, case)]
            done[case] = {"inputs": inputs[case], "image": key, "lost": lost, "checksums": of_files}
            if time.monotonic() - written > _RECORD_SECONDS:  # not after each case, because the whole record is written
                write_json(parent / RECORD_FILE, record)
                written = time.monotonic()
    finally:
        write_json(parent / RECORD_FILE, record)
    for case in cases:
        image = StoredImage(store, case, done[case]["image"])
        link_or_copy(image.array_path, folder / f"{case}.b2nd", parent, symbolic=True)
        link_or_copy(labels[case], parent / "gt_segmentations" / f"{case}{dataset.file_ending}", parent)
    return [sentence for case in cases for sentence in done[case]["lost"]]


def _reuse_previous(
    old_parent: Path, identifier: str, parent: Path, done: dict[str, Any], inputs: dict[str, str], store: Path
) -> dict[str, Any]:
    """Link files that the previous round made from the same inputs, and return their records."""
    old = read_record(old_parent).get(identifier, {})
    taken = {}
    for case, wanted in inputs.items():
        if case not in done and _is_done(old, case, wanted, old_parent / identifier, store):
            for path in _label_files(old_parent / identifier, case):
                link_or_copy(path, parent / identifier / path.name, parent)
            taken[case] = old[case]
    return taken


def _is_done(record: dict[str, Any], case: str, inputs: str, folder: Path, store: Path) -> bool:
    entry = record.get(case)
    if entry is None or entry["inputs"] != inputs or not StoredImage(store, case, entry["image"]).exists:
        return False
    files = _label_files(folder, case)
    if "checksums" not in entry:  # of an earlier version
        if not all(map(_can_be_read, files)):
            return False
        entry["checksums"] = [checksum(path) for path in files]
    return all(is_intact(path, expected) for path, expected in zip(files, entry["checksums"], strict=True))


def _label_files(folder: Path, case: str) -> tuple[Path, Path]:
    return folder / f"{case}_seg.b2nd", folder / f"{case}.pkl"


def _can_be_read(path: Path) -> bool:
    try:
        if path.suffix == ".pkl":
            read_pickle(path)
        else:
            open_array(path)[:]
    except Exception:  # blosc2 and pickle raise many kinds
        return False
    return True


def read_record(parent: Path) -> dict[str, Any]:
    """Return the record of a preprocessed folder: data identifier -> case -> its inputs, its image and so on."""
    try:
        return read_json(parent / RECORD_FILE)
    except (OSError, ValueError):  # absent or broken: everything is preprocessed again
        return {}


def _remove_other_cases(folder: Path, cases: set[str]) -> None:
    """Remove files of other cases, because nnU-Net trains on every image in the folder."""
    names = {name for case in cases for name in (f"{case}.b2nd", f"{case}_seg.b2nd", f"{case}.pkl")}
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in names:
                path.unlink()
