"""nnU-Net's dataset fingerprint, in which unannotated voxels are nobody's foreground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.nnunet.case_facts import CaseFacts
from nnunet_al.nnunet.workers import run_jobs

PLACEHOLDER = "intensities_are_placeholders"
"""Key of a fingerprint that is True where no annotated foreground exists yet; nnU-Net does not read it."""

MAX_VOXELS = 10e7
"""Foreground voxels that nnU-Net samples in the whole dataset, the same number in each case."""

_INTENSITIES = "foreground_intensity_properties_per_channel"
_PERCENTILES = (0.5, 50.0, 99.5)
_UNCLIPPED = 1e6  # finite, and beyond any intensity: a normalisation with the placeholder clips nothing


def extract_fingerprint(
    annotated: Mapping[str, tuple[Sequence[Path], Path]],
    facts: Mapping[str, CaseFacts],
    channels: int,
    pool_size: int,
    ignore: int | None,
    workers: int = 1,
    log: Path | None = None,
    max_voxels: float = MAX_VOXELS,
) -> dict[str, Any]:
    """Compute what nnU-Net's ``DatasetFingerprintExtractor`` would, from partly annotated cases.

    Spacings and shapes come from the whole pool, in sorted order of cases: they need no label. Intensity statistics
    come from ``int(max_voxels // pool_size)`` voxels of each annotated case, drawn with replacement by nnU-Net's own
    function from the voxels whose label is above 0 and not ``ignore``. With every case annotated the result is equal
    to nnU-Net's.

    Parameters
    ----------
    annotated
        per case its image files and its composed label
    facts
        of all cases of the pool, annotated or not
    channels
        number of image channels
    pool_size
        number of cases that the samples are shared between; constant over the rounds
    ignore
        the label value of unannotated voxels
    workers
        number of processes
    log
        file that gets what nnU-Net prints
    max_voxels
        voxels sampled in the whole pool; nnU-Net's number

    Returns
    -------
    dict
        nnU-Net's keys with plain values; and ``PLACEHOLDER: True`` where no annotated foreground exists, in which case
        the statistics are finite placeholders (mean 0, standard deviation 1).
    """
    pool = [facts[case] for case in sorted(facts)]
    samples = int(max_voxels // pool_size)
    reader = pool[0].reader
    jobs = [(images, label, reader, samples, ignore) for _, (images, label) in sorted(annotated.items())]
    drawn = run_jobs(_sample_case, jobs, workers, "extracting the fingerprint", log)
    fingerprint: dict[str, Any] = {
        "spacings": [list(case.spacing_mm) for case in pool],
        "shapes_after_crop": [list(case.shape_after_crop) for case in pool],
        _INTENSITIES: {},
        "median_relative_size_after_cropping": float(np.median([case.relative_size_after_crop for case in pool])),
    }
    for channel in range(channels):
        # nnU-Net joins empty lists for cases without foreground, which makes the array double precision; so do we
        voxels_N = np.concatenate([case[channel] for case in drawn]) if drawn else np.empty(0)
        if len(voxels_N) == 0:
            fingerprint[PLACEHOLDER] = True
        fingerprint[_INTENSITIES][str(channel)] = _statistics(voxels_N)
    return fingerprint


def intensity_drift(
    old: Mapping[Any, Mapping[str, float]], new: Mapping[Any, Mapping[str, float]], tolerance: float = 0.5
) -> list[str]:
    """Describe where new intensity statistics have left the old ones, per channel.

    A channel has drifted if its mean, its 0.5 or its 99.5 percentile moved by more than ``tolerance`` old standard
    deviations, or if its standard deviation changed by more than a factor of ``1 + tolerance``. The threshold is ours:
    nnU-Net normalises CT by these numbers, so half a standard deviation shifts the network's input by 0.5.

    Parameters
    ----------
    old, new
        ``foreground_intensity_properties_per_channel`` of two fingerprints or plans
    tolerance
        in old standard deviations
    """
    sentences = []
    after_of = {str(channel): statistics for channel, statistics in new.items()}
    for channel, before in old.items():
        after = after_of[str(channel)]
        scale = max(before["std"], 1e-8)
        names = {"mean": "mean", "percentile_00_5": "0.5 percentile", "percentile_99_5": "99.5 percentile"}
        moved = [
            f"{name} from {before[key]:.4g} to {after[key]:.4g}"
            for key, name in names.items()
            if abs(after[key] - before[key]) > tolerance * scale
        ]
        ratio = max(after["std"], 1e-8) / scale
        if max(ratio, 1 / ratio) > 1 + tolerance:
            moved.append(f"standard deviation from {before['std']:.4g} to {after['std']:.4g}")
        if moved:
            sentences.append(f"The intensities of channel {channel} have drifted: {', '.join(moved)}.")
    return sentences


def _sample_case(images: Sequence[Path], label: Path, reader: str, samples: int, ignore: int | None) -> list[Any]:
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name
    from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero

    io = recursive_find_reader_writer_by_name(reader)()
    image_C_xyz, _ = io.read_images([str(file) for file in images])
    label_1_xyz, _ = io.read_seg(str(label))
    if ignore is not None:
        label_1_xyz[label_1_xyz == ignore] = 0
    image_C_xyz, label_1_xyz, _ = crop_to_nonzero(image_C_xyz, label_1_xyz)
    return DatasetFingerprintExtractor.collect_foreground_intensities(label_1_xyz, image_C_xyz, num_samples=samples)[0]


def _statistics(voxels_N: np.ndarray) -> dict[str, float]:
    if len(voxels_N) == 0:
        limits = {"min": -_UNCLIPPED, "max": _UNCLIPPED, "percentile_99_5": _UNCLIPPED, "percentile_00_5": -_UNCLIPPED}
        return {"mean": 0.0, "median": 0.0, "std": 1.0, **limits}
    low, median, high = np.percentile(voxels_N, np.array(_PERCENTILES))
    return {
        "mean": float(np.mean(voxels_N)),
        "median": float(median),
        "std": float(np.std(voxels_N)),
        "min": float(np.min(voxels_N)),
        "max": float(np.max(voxels_N)),
        "percentile_99_5": float(high),
        "percentile_00_5": float(low),
    }
