"""Samples of foreground intensities per case for the fingerprint, redrawn when the label changes."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnunet_al.files import hash_file, hash_json, read_arrays, write_arrays
from nnunet_al.nnunet.case_facts import CaseFacts
from nnunet_al.nnunet.intensity_statistics import ValueCounts
from nnunet_al.nnunet.workers import run_jobs
from nnunet_al.pool.boxes import to_slices

_BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class SampleRule(NamedTuple):
    """Number of voxels to draw from each case, and the ignore label, which does not count as foreground."""

    samples: int
    ignore: int | None


def case_samples(
    annotated: Mapping[str, tuple[Sequence[Path], Path]],
    facts: Mapping[str, CaseFacts],
    rule: SampleRule,
    folder: Path | None = None,
    workers: int = 1,
    log: Path | None = None,
) -> list[list[ValueCounts]]:
    """Return the sampled voxels of each annotated case and channel, in sorted order of the cases.

    With a ``folder``, samples are kept there under a hash of all their inputs: image files, label file, ``rule`` and
    nnU-Net's version. Cases with a kept sample are not read; samples that are no longer needed are removed. The folder
    may be deleted at any time, and holds at most 8 bytes per drawn voxel, before compression.

    ``annotated`` holds the image files and the composed label per case, ``facts`` those of these cases, or of more.
    """
    cases = sorted(annotated)
    files: dict[str, Path] = {}
    if folder is not None:
        rules = [version("nnunetv2"), *rule]  # looked up once, because it reads the package's metadata
        files = {case: folder / _name(facts[case], annotated[case][1], rules) for case in cases}
    samples = {case: sample for case, file in files.items() if (sample := _read(file)) is not None}
    fresh = [case for case in cases if case not in samples]
    jobs = [(*annotated[case], facts[case], rule, files.get(case)) for case in fresh]
    sizes = [math.prod(facts[case].raw_shape) for case in fresh]
    drawn = run_jobs(draw_sample, jobs, workers, "extracting the fingerprint", log, sizes)
    samples.update(zip(fresh, drawn, strict=True))
    if folder is not None and folder.is_dir():
        for outdated in set(folder.glob("*.npz")).difference(files.values()):
            outdated.unlink(missing_ok=True)
    return [samples[case] for case in cases]


def draw_sample(
    images: Sequence[Path], label: Path, facts: CaseFacts, rule: SampleRule, file: Path | None = None
) -> list[ValueCounts]:
    """Draw the voxels of one case as nnU-Net's ``DatasetFingerprintExtractor`` does, and write them to ``file``.

    nnU-Net's own function draws ``rule.samples`` voxels of each channel with replacement and its own seed, from the
    voxels with a label above 0 in ``facts.crop_box``; ``rule.ignore`` is set to 0 before. A case without foreground
    gives no voxel.

    Raises StorageError if ``file`` cannot be written.
    """
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

    io = recursive_find_reader_writer_by_name(facts.reader)()
    image_C_xyz, _ = io.read_images([str(path) for path in images])
    label_1_xyz, _ = io.read_seg(str(label))
    if rule.ignore is not None:
        label_1_xyz[label_1_xyz == rule.ignore] = 0
    inside = (slice(None), *to_slices(facts.crop_box))
    image_C_xyz, label_1_xyz = image_C_xyz[inside], label_1_xyz[inside]
    draw = DatasetFingerprintExtractor.collect_foreground_intensities
    sample = [ValueCounts.of(voxels_N) for voxels_N in draw(label_1_xyz, image_C_xyz, num_samples=rule.samples)[0]]
    if file is not None:
        arrays = {f"values_{channel}": part.values_M for channel, part in enumerate(sample)}
        write_arrays(
            file,
            name=np.array(file.stem),
            **arrays,
            **{f"counts_{channel}": part.counts_M for channel, part in enumerate(sample)},
        )
    return sample


def _name(facts: CaseFacts, label: Path, rules: list) -> str:
    inputs = [*rules, facts.reader, list(facts.image_hashes), hash_file(label)]
    return f"{facts.case}-{hash_json(inputs)[:16]}.npz"


def _read(file: Path) -> list[ValueCounts] | None:
    """Read a sample; None if there is no file or it is broken, so that the sample is drawn again."""
    try:
        arrays = read_arrays(file)
        if str(arrays.pop("name")) != file.stem:  # that of another case or label
            return None
        return [ValueCounts(arrays[f"values_{c}"], arrays[f"counts_{c}"]) for c in range(len(arrays) // 2)]
    except _BROKEN:
        return None
