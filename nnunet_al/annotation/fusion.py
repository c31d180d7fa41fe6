"""Fusion of independent readings of the same regions into one label, and the agreement of the readers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import SimpleITK

METHODS = ("staple", "majority")
_ITERATIONS = 300  # upper limit for STAPLE, which usually converges after some tens


@dataclass(frozen=True)
class Consensus:
    """Result of the fusion of several readings.

    Attributes
    ----------
    labels_kji : the label of each voxel, the ignore value where it is not annotated or undecided
    differing_voxels : number of voxels that at least two readings annotate with different labels
    undecided_voxels : number of annotated voxels without a label, because of a tie
    agreement : foreground value -> Dice between two readings, averaged over all pairs; see ``fuse``
    """

    labels_kji: np.ndarray
    differing_voxels: int
    undecided_voxels: int
    agreement: Mapping[int, float]


def fuse(readings_kji: Sequence[np.ndarray], method: str, ignore: int) -> Consensus:
    """Fuse readings voxel by voxel, by the votes of the readings that annotate the voxel.

    The readings, at least one, are arrays of labels of one shape, with ``ignore`` where a reading annotates nothing.
    ``majority`` takes the label with the most votes (SimpleITK's LabelVoting). ``staple`` estimates the reliability of
    each reading per class and weights the votes accordingly (SimpleITK's MultiLabelSTAPLE), separately for each set of
    voxels annotated by the same readings; unannotated voxels are not used. Unanimous readings are never overruled. A
    voxel becomes undecided, with the ignore value, where votes tie, where STAPLE leaves it undecided, or where STAPLE
    gives it a label that no reading has there. The result does not depend on the order of the readings. STAPLE starts
    from the majority, so two different readings stay undecided with both methods.

    The agreement on a value v is the mean over all pairs (a, b) of readings of Dice = 2 |a = v and b = v| / (|a = v| +
    |b = v|) over the voxels that both annotate, and 1 where neither has v, for each foreground value that occurs where
    at least two readings annotate.
    """
    assert readings_kji, "there is nothing to fuse"
    assert method in METHODS, method
    shape = readings_kji[0].shape
    assert all(reading.shape == shape for reading in readings_kji), "readings lie on one grid"
    labels_R_N = _canonical(np.stack([np.ravel(reading) for reading in readings_kji]))
    annotated_R_N = labels_R_N != ignore
    fused_N = np.full(labels_R_N.shape[1], ignore, labels_R_N.dtype)
    differing = 0
    for who_R, voxels in _by_annotators(annotated_R_N):
        votes_R_N = labels_R_N[who_R][:, voxels]
        unanimous_N = (votes_R_N == votes_R_N[0]).all(axis=0)
        fused_N[voxels] = votes_R_N[0] if unanimous_N.all() else _decide(votes_R_N, unanimous_N, method, ignore)
        differing += int((~unanimous_N).sum())
    undecided = int((annotated_R_N.any(axis=0) & (fused_N == ignore)).sum())
    return Consensus(fused_N.reshape(shape), differing, undecided, _agreement(labels_R_N, annotated_R_N))


def _canonical(labels_R_N: np.ndarray) -> np.ndarray:
    """Return the readings in an order by content, so that rounding does not depend on the given order."""
    order = sorted(range(len(labels_R_N)), key=lambda index: labels_R_N[index].tobytes())
    return labels_R_N[order]


def _by_annotators(annotated_R_N: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (who_R, voxels): a set of readings, bool (R,), and the indices of voxels annotated by exactly these."""
    pattern_N = np.zeros(annotated_R_N.shape[1], np.int64)
    for bit, annotated_N in enumerate(annotated_R_N):
        pattern_N |= annotated_N.astype(np.int64) << bit
    for pattern in np.unique(pattern_N):
        if pattern:
            yield (pattern >> np.arange(len(annotated_R_N))) & 1 == 1, np.flatnonzero(pattern_N == pattern)


def _decide(votes_R_N: np.ndarray, unanimous_N: np.ndarray, method: str, ignore: int) -> np.ndarray:
    """Return the label of each voxel that all of these readings annotate, ``ignore`` where it is undecided."""
    # Values are renumbered without gaps from 1, so that absent classes do not count and no value is too large for the
    # filters. 0 is not used: up to ITK 5.4, STAPLE counts voxels with tied initial votes as label 0 (seen).
    values, codes_R_N = np.unique(votes_R_N, return_inverse=True)
    codes_R_N = 1 + codes_R_N.reshape(votes_R_N.shape)
    undecided = len(values) + 1
    images = [SimpleITK.GetImageFromArray(codes_N[None].astype(np.min_scalar_type(undecided))) for codes_N in codes_R_N]
    if method == "majority":
        fused = SimpleITK.LabelVoting(images, undecided)
    else:
        staple = SimpleITK.MultiLabelSTAPLEImageFilter()
        staple.SetLabelForUndecidedPixels(undecided)
        staple.SetMaximumNumberOfIterations(_ITERATIONS)
        fused = staple.Execute(images)
    label_of = np.array([ignore, *values, ignore], votes_R_N.dtype)
    fused_N = label_of[SimpleITK.GetArrayFromImage(fused)[0]]
    fused_N[~(fused_N == votes_R_N).any(axis=0)] = ignore
    return np.where(unanimous_N, votes_R_N[0], fused_N)


def _agreement(labels_R_N: np.ndarray, annotated_R_N: np.ndarray) -> dict[int, float]:
    dice: dict[int, list[float]] = {}
    shared_N = annotated_R_N.sum(axis=0) > 1
    values = [int(value) for value in np.unique(labels_R_N[annotated_R_N & shared_N]) if value != 0]
    for a, b in combinations(range(len(labels_R_N)), 2):
        both_N = annotated_R_N[a] & annotated_R_N[b]
        a_N, b_N = labels_R_N[a][both_N], labels_R_N[b][both_N]
        for value in values:
            dice.setdefault(value, []).append(_dice(a_N == value, b_N == value))
    return {value: float(np.mean(of_pairs)) for value, of_pairs in dice.items()}


def _dice(a_N: np.ndarray, b_N: np.ndarray) -> float:
    together = int(a_N.sum()) + int(b_N.sum())
    return 2 * int((a_N & b_N).sum()) / together if together else 1.0
