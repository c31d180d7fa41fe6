"""A procedural head: the default label map from which cohorts are deformed."""

from __future__ import annotations

import numpy as np

from nnunet_al.errors import DatasetError
from nnunet_al.synthetic import brain_cortex as cortex
from nnunet_al.synthetic.brain_shapes import Bools, Ellipsoid, Floats
from nnunet_al.synthetic.brain_structures import STRUCTURES
from nnunet_al.synthetic.template import LabelMap
from nnunet_al.synthetic.tissues import labels_of

FIELD_OF_VIEW_MM = (76.0, 170.0, 170.0)
"""z, y, x: around the caudate nuclei, as in Danaee et al. 2026."""

SKIN, SOFT_TISSUE, SKULL, MARROW, EYES = 511, 507, 515, 516, 506
"""Labels around the brain, as in the label maps published with SynthSeg."""

_LEFT_TISSUES, _RIGHT_TISSUES = (24, 3, 2), (24, 42, 41)  # fluid, cortex, white matter
_HEAD = Ellipsoid((-20.0, 14.0, 0.0), (80.0, 91.0, 76.0))
_EYE = Ellipsoid((-36.0, -51.0, 32.0), (12.0, 12.0, 12.0))
_MENINGES_MM, _SKULL_MM, _MARROW_MM, _SCALP_MM, _SKIN_MM = 2.2, 6.5, 2.0, 5.5, 3.0
_COARSEST_MM = 6.0

_SEPTUM_HALF_WIDTH_MM = 0.8


def brain_phantom(spacing_mm: float = 1.0) -> LabelMap:
    """Return the label map of an artificial adult head, 76 x 170 x 170 mm (z, y, x) around the caudate nuclei.

    Cerebral white matter 2/41, folded cortex 3/42, lateral ventricles 4/43 and 5/44, thalamus 10/49, caudate 11/50,
    putamen 12/51, pallidum 13/52, hippocampus 17/53, amygdala 18/54, accumbens 26/58, ventral diencephalon 28/60,
    cerebellum 7, 8/46, 47 (FreeSurfer's numbers, left/right), third ventricle 14, brain stem 16, CSF 24, and around
    them skull, marrow, soft tissue, skin and eyes; 0 outside. Sizes and positions are those of adults: within the field
    of view the volumes of all structures of the cerebrum are within a factor of two of the medians of 14 real heads.
    The two sides differ slightly. There is no randomness: the spacing determines the map.

    Voxels are cubes. All shapes are formulas in mm, so volumes hardly depend on their size; structures thinner than a
    voxel, such as sulci, are lost.

    Raises DatasetError if the spacing is not positive or so coarse that a caudate nucleus would be a few voxels.
    """
    if not 0 < spacing_mm <= _COARSEST_MM:
        raise DatasetError(
            f"A brain phantom with voxels of {spacing_mm} mm is impossible: choose a spacing above 0 and up to "
            f"{_COARSEST_MM:g} mm."
        )
    shape = [round(extent / spacing_mm) for extent in FIELD_OF_VIEW_MM]
    axes = [(np.arange(length) - (length - 1) / 2) * spacing_mm for length in shape]
    labels_zyx = np.zeros(shape, np.int16)
    for z, height in enumerate(axes[0]):  # one slice at a time, to limit the memory
        points_3_N = np.stack(np.meshgrid([height], axes[1], axes[2], indexing="ij")).reshape(3, -1)
        labels_zyx[z] = _labels(points_3_N + _asymmetry(points_3_N)).reshape(shape[1:])
    return LabelMap(labels_zyx, (float(spacing_mm),) * 3)


def _asymmetry(points_3_N: Floats) -> Floats:
    """Return smooth displacements of about 0.7 mm, so that the two sides differ."""
    return np.stack([0.5 * cortex.waves(points_3_N, 70.0, 8, shift).clip(-2, 2) for shift in (0.0, 2.0, 4.0)])


def _labels(points_3_N: Floats) -> np.ndarray:
    left_N = points_3_N[2] > 0
    mirrored_3_N = np.concatenate([points_3_N[:2], np.abs(points_3_N[2:])])
    depth_N = cortex.hull_depth(mirrored_3_N)
    labels_N = _surroundings(mirrored_3_N, depth_N)
    within = np.flatnonzero(depth_N > -_MENINGES_MM)
    labels_N[within] = _brain(mirrored_3_N[:, within], left_N[within])
    return labels_N


def _surroundings(points_3_N: Floats, depth_N: Floats) -> np.ndarray:
    outside_skull_N = -depth_N - _MENINGES_MM - _SKULL_MM
    below_skin_N = np.maximum(_HEAD.depth(points_3_N), _SCALP_MM - outside_skull_N)
    labels_N = np.select([below_skin_N > _SKIN_MM, below_skin_N > 0], [SOFT_TISSUE, SKIN], 0).astype(np.int16)
    labels_N[_EYE.contains(points_3_N)] = EYES
    labels_N[outside_skull_N < 0] = SKULL
    vault_N = points_3_N[0] - 0.4 * points_3_N[1] > 12
    labels_N[vault_N & (np.abs(outside_skull_N + _SKULL_MM / 2) < _MARROW_MM / 2)] = MARROW
    return labels_N


def _brain(points_3_N: Floats, left_N: Bools) -> np.ndarray:
    tissue_N = cortex.hemisphere_tissue(points_3_N, left_N)
    labels_N = np.where(left_N, np.take(_LEFT_TISSUES, tissue_N), np.take(_RIGHT_TISSUES, tissue_N)).astype(np.int16)
    for name, shape in STRUCTURES.items():
        inside_N = shape.contains(points_3_N)
        if name == "lateral_ventricle":  # the septum separates them
            inside_N &= points_3_N[2] > _SEPTUM_HALF_WIDTH_MM
        left, right = labels_of(name)
        labels_N[inside_N] = np.where(left_N[inside_N], left, right)
    return labels_N
