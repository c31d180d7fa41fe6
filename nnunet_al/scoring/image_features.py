"""Features of regions from the image only, for a first batch that is chosen without a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

SCALES_MM = (1.0, 2.0, 4.0)
PERCENTILES = (5.0, 25.0, 50.0, 75.0, 95.0)


def image_features(
    image_C_xyz: np.ndarray,
    spacing_mm: Sequence[float],
    boxes: Sequence[Sequence[tuple[int, int]]],
    scales_mm: Sequence[float] = SCALES_MM,
) -> np.ndarray:
    """Describe regions of one case by intensities, edges, position and size, without a model or labels.

    For the cold start: regions whose features are far from each other (`k_center`, after Sener and Savarese, "Active
    Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018, who use a network's features) form a
    diverse first batch. Typicality does not count, so unusual regions are chosen early.

    Per channel, intensities become z = (value - mean) / standard deviation, both over the image's nonzero voxels; where
    all of these are equal, their absolute value replaces the deviation, and where there are none z is 0. Gradients are
    central differences per mm of z smoothed by a Gaussian of a physical scale.

    Parameters
    ----------
    image_C_xyz : array (C, *shape)
        raw intensities, finite, with any number of axes.
    spacing_mm : sequence of float
        size of a voxel along each axis.
    boxes : sequence of N boxes
        half-open intervals of voxels, one per axis, each of at least one voxel.
    scales_mm : sequence of S floats
        standard deviations of the Gaussians.

    Returns
    -------
    float64 array (N, C * (7 + S) + 2 * axes)
        per channel: mean and standard deviation of z, its percentiles 5, 25, 50, 75 and 95, and the mean gradient
        magnitude at each scale; then, per axis and relative to the image, the region's centre and size.
    """
    count, shape = len(boxes), image_C_xyz.shape[1:]
    columns = []
    slices = [tuple(slice(low, high) for low, high in box) for box in boxes]
    for image_xyz in image_C_xyz:
        z_xyz = _standardised_intensities(image_xyz)
        stats_N = np.empty((count, 2 + len(PERCENTILES)))
        for row_d, inside in zip(stats_N, slices, strict=True):
            values = z_xyz[inside]
            row_d[:2] = values.mean(dtype=np.float64), values.std(dtype=np.float64)
            row_d[2:] = np.percentile(values, PERCENTILES)
        columns.append(stats_N)
        for scale_mm in scales_mm:
            slope_xyz = _gradient_magnitude(z_xyz, spacing_mm, scale_mm)
            columns.append(np.array([slope_xyz[inside].mean(dtype=np.float64) for inside in slices]).reshape(count, 1))
    bounds_N_axes_2 = np.asarray(boxes, dtype=np.float64).reshape(count, len(shape), 2)
    columns.append(bounds_N_axes_2.mean(2) / shape)
    columns.append((bounds_N_axes_2[..., 1] - bounds_N_axes_2[..., 0]) / shape)
    return np.concatenate(columns, axis=1)


def standardise(features_N_d: np.ndarray) -> np.ndarray:
    """Scale each feature of a pool to mean 0 and standard deviation 1, so that all have equal weight in a distance.

    Parameters
    ----------
    features_N_d : array (N, d)
        of all regions. The last digits depend on the order of the rows: sort them for a repeatable result.

    Returns
    -------
    float64 array (N, at most d)
        without features that are equal for all regions; a column of zeros where none is left.
    """
    features_N_d = np.asarray(features_N_d, dtype=np.float64)
    if not len(features_N_d):
        return features_N_d
    spread_d = np.ptp(features_N_d, axis=0)
    # differences in the last digits are rounding and must not be scaled up to a full feature
    varied_d = spread_d > 1e-6 * np.abs(features_N_d).max(0, initial=1e-6)
    if not varied_d.any():
        return np.zeros((len(features_N_d), 1))
    kept_N_d = features_N_d[:, varied_d]
    return (kept_N_d - kept_N_d.mean(0)) / kept_N_d.std(0)


def _standardised_intensities(image_xyz: np.ndarray) -> np.ndarray:
    values = image_xyz[image_xyz != 0].astype(np.float64)
    if not len(values):
        return np.zeros(image_xyz.shape, np.float32)
    constant = values.min() == values.max()
    mean, scale = (values[0], abs(values[0])) if constant else (values.mean(), values.std())
    z_xyz = image_xyz.astype(np.float64)
    z_xyz -= mean
    z_xyz /= scale
    return z_xyz.astype(np.float32)


def _gradient_magnitude(z_xyz: np.ndarray, spacing_mm: Sequence[float], scale_mm: float) -> np.ndarray:
    # A Gaussian's own derivative vanishes where voxels are much larger than its scale, as slices often are; central
    # differences of the smoothed image do not.
    smooth_xyz = gaussian_filter(z_xyz, [scale_mm / length for length in spacing_mm], mode="nearest")
    squared_xyz = np.zeros_like(smooth_xyz)
    for axis, (voxels, length_mm) in enumerate(zip(z_xyz.shape, spacing_mm, strict=True)):
        if voxels > 1:
            squared_xyz += np.gradient(smooth_xyz, length_mm, axis=axis) ** 2
    return np.sqrt(squared_xyz)
