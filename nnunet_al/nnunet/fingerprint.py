"""nnU-Net's dataset fingerprint of partly annotated cases: unannotated voxels do not count as foreground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.nnunet.case_facts import CaseFacts
from nnunet_al.nnunet.intensity_samples import SampleRule, case_samples
from nnunet_al.nnunet.intensity_statistics import intensity_statistics

PLACEHOLDER = "intensities_are_placeholders"
"""Key of a fingerprint that is True if no foreground is annotated yet; nnU-Net does not read it."""

MAX_VOXELS = 10e7
"""Foreground voxels that nnU-Net samples in the whole dataset, the same number in each case."""

_INTENSITIES = "foreground_intensity_properties_per_channel"
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
    samples: Path | None = None,
) -> dict[str, Any]:
    """Compute the fingerprint of nnU-Net's ``DatasetFingerprintExtractor`` from partly annotated cases.

    Spacings and shapes come from the whole pool, in sorted order of cases: they need no label. Intensity statistics
    come from ``int(max_voxels // pool_size)`` voxels of each annotated case, drawn with replacement by nnU-Net's own
    function from the voxels whose label is above 0 and not ``ignore``. If every case is annotated, the result equals
    nnU-Net's except for the rounding of mean and standard deviation (see ``intensity_statistics``).

    Parameters
    ----------
    annotated
        image files and composed label per case
    facts
        of all cases of the pool, annotated or not
    channels
        number of image channels
    pool_size
        number of cases that share the samples; constant over the rounds
    ignore
        the label value of unannotated voxels
    workers, log
        number of processes, and file for nnU-Net's output
    max_voxels
        voxels sampled in the whole pool
    samples
        folder that keeps the voxels drawn from each case, so that the next call reads only cases with new annotations;
        see ``case_samples``

    Returns
    -------
    dict
        nnU-Net's keys with plain values; if no foreground is annotated, also ``PLACEHOLDER: True``, and the statistics
        are finite placeholders (mean 0, standard deviation 1).
    """
    pool = [facts[case] for case in sorted(facts)]
    rule = SampleRule(int(max_voxels // pool_size), ignore)
    drawn = case_samples(annotated, facts, rule, samples, workers, log)
    # as in nnU-Net, where the empty list of a case without foreground turns the joined voxels into float64
    dtype = np.float32 if all(len(part.values_M) for case in drawn for part in case) else np.float64
    fingerprint: dict[str, Any] = {
        "spacings": [list(case.spacing_mm) for case in pool],
        "shapes_after_crop": [list(case.shape_after_crop) for case in pool],
        _INTENSITIES: {},
        "median_relative_size_after_cropping": float(np.median([case.relative_size_after_crop for case in pool])),
    }
    for channel in range(channels):
        statistics = intensity_statistics([case.pop(0) for case in drawn], dtype)
        if statistics is None:
            fingerprint[PLACEHOLDER] = True
        fingerprint[_INTENSITIES][str(channel)] = statistics or _placeholder()
    return fingerprint


def intensity_drift(
    old: Mapping[Any, Mapping[str, float]], new: Mapping[Any, Mapping[str, float]], tolerance: float = 0.5
) -> list[str]:
    """Describe how far new intensity statistics have drifted from the old ones, one sentence per drifted channel.

    A channel has drifted if its mean, its 0.5 or its 99.5 percentile moved by more than ``tolerance`` old standard
    deviations, or if its standard deviation changed by more than a factor of ``1 + tolerance``. The threshold is our
    choice: nnU-Net normalises CT by these numbers, so half a standard deviation shifts the network's input by 0.5.
    ``old`` and ``new`` are ``foreground_intensity_properties_per_channel`` of two fingerprints or plans.
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


def _placeholder() -> dict[str, float]:
    limits = {"min": -_UNCLIPPED, "max": _UNCLIPPED, "percentile_99_5": _UNCLIPPED, "percentile_00_5": -_UNCLIPPED}
    return {"mean": 0.0, "median": 0.0, "std": 1.0, **limits}
