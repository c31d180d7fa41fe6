"""Appearance of a deformed head in a T1-weighted image: tissues, partial volume, bias field, noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_fill_holes, gaussian_filter, map_coordinates

from nnunet_al.synthetic.template import Grid
from nnunet_al.synthetic.tissues import intensities

TISSUE_SPREAD = 0.04
"""Standard deviation of the mean intensity of a tissue between cases, relative to the mean."""
BIAS_SPREAD = 0.08
"""Standard deviation of the logarithm of the multiplicative bias field."""
NOISE = 25.0
"""Standard deviation of the noise in each channel (real, imaginary), in the unit of the intensities."""
_BIAS_NODES_MM, _BIAS_NODES, _BIAS_LENGTH_MM = 16.0, 16, 40.0


def head_mask(labels_zyx: np.ndarray) -> np.ndarray:
    """Return the mask of the head in a template: labels other than 0, and label 0 enclosed by them within a slice."""
    return np.stack([binary_fill_holes(slice_yx != 0) for slice_yx in labels_zyx])


def paint(
    labels_zyx: np.ndarray,
    head_zyx: np.ndarray,
    spacing_mm: Sequence[float],
    voxel_mm: Sequence[float],
    rng: np.random.Generator,
    uniform: bool = False,
) -> np.ndarray:
    """Return a template with a case's intensities, ``image_zyx`` float32.

    ``voxel_mm`` is the voxel spacing of the case's image: the boundaries between tissues are blurred with half of it as
    standard deviation, but at least 0.5 mm. The other arrays are the template's, see :func:`head_mask`.
    ``uniform``: tissues have their mean intensities in all cases.
    """
    present, codes_zyx = np.unique(labels_zyx, return_inverse=True)
    means = intensities(present, 0.0 if uniform else TISSUE_SPREAD, rng)
    table = np.array([means[int(label)] for label in present], dtype=np.float32)
    painted_zyx = np.where(head_zyx, table[codes_zyx.reshape(labels_zyx.shape)], np.float32(0))
    sigma_mm = np.maximum(0.5 * np.asarray(voxel_mm, dtype=float), 0.5)
    return gaussian_filter(painted_zyx, sigma_mm / np.asarray(spacing_mm), mode="nearest")


def scan(clean_zyx: np.ndarray, head_zyx: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Add the effects of a scanner to a warped image: a smooth bias field, then Rician noise.

    With the field b, a Gaussian random field of mean 0 over about 40 mm, the value is
    :math:`|m e^{b} + n_1 + i n_2|` with two independent normal numbers of standard deviation `NOISE` (Gudbjartsson and
    Patz 1995).

    Returns
    -------
    numpy.ndarray
        ``image_zyx`` int16: 0 outside the head, at least 1 in it, because nnU-Net crops by zero.
    """
    values_zyx = clean_zyx * np.exp(BIAS_SPREAD * _bias(grid, rng))
    real_zyx = values_zyx + NOISE * rng.standard_normal(grid.shape, dtype=np.float32)
    imaginary_zyx = NOISE * rng.standard_normal(grid.shape, dtype=np.float32)
    magnitude_zyx = np.round(np.hypot(real_zyx, imaginary_zyx))
    return np.where(head_zyx, np.clip(magnitude_zyx, 1, 32767), 0).astype(np.int16)


def plain(clean_zyx: np.ndarray, head_zyx: np.ndarray) -> np.ndarray:
    """Return a warped image as it is, ``image_zyx`` int16: 0 outside the head, at least 1 in it."""
    return np.where(head_zyx, np.clip(np.round(clean_zyx), 1, 32767), 0).astype(np.int16)


def _bias(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    # on nodes in mm, so that it is the same at any resolution
    field = gaussian_filter(rng.standard_normal((_BIAS_NODES,) * 3), _BIAS_LENGTH_MM / _BIAS_NODES_MM, mode="wrap")
    field = (field - field.mean()) / field.std()
    nodes_3_zyx = grid.positions() / np.float32(_BIAS_NODES_MM)
    return map_coordinates(field.astype(np.float32), nodes_3_zyx, order=3, mode="grid-wrap", output=np.float32)
