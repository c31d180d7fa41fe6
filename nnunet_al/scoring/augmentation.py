"""Test-time augmentation: predictions for rotated and noisy windows, rotated back (paper 3, section 4.3.2).

Our choices where the paper gives no details: rotations are physical (in mm) and about the window's centre, in the plane
of its last two axes, so that in 3d all slices along the first axis are rotated in the same way (nnU-Net puts the
coarsest axis first); intensities are interpolated bilinearly with 0 outside the window, as in nnU-Net's training; noise
is added after the rotation, because interpolation would weaken it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from nnunet_al.scoring.posterior import deterministic_probabilities
from nnunet_al.scoring.samplers import Samples

_ROUNDING = 1e-6  # voxels


class AugmentationSampler:
    """K = `passes` transforms, the same for all windows, each a rotation and additive noise.

    Paper 3 uses K = 8, angles from U(-10°, 10°) and noise from N(0, 0.01), on images that are scaled by their 1st and
    99th percentile. Its code takes 0.01 as the standard deviation, and the image as it is as one of the eight: this is
    ``noise_variance=1e-4, plain=True`` with the ranges between these percentiles at each call. The defaults read 0.01
    as a variance, in the unit of the preprocessed intensities.
    """

    def __init__(
        self,
        network: nn.Module,
        exclusive: bool,
        passes: int,
        rng: np.random.Generator,
        spacing_mm: Sequence[float],
        noise_variance: float = 0.01,
        max_angle_deg: float = 10.0,
        plain: bool = False,
    ) -> None:
        """Store the settings; angles and noise are drawn from `rng` once, at the first call.

        Parameters
        ----------
        network
            the trained network; its dropout stays off.
        exclusive
            softmax classes, else sigmoid heads.
        passes
            K, at least 1.
        rng
            the generator of this purpose.
        spacing_mm
            spacing of the window's spatial axes; only the ratio of the last two matters.
        noise_variance
            variance of the noise, not its standard deviation, at least 0.
        max_angle_deg
            angles are uniform between minus and plus this, in degrees.
        plain
            whether the first of the K samples is of the window as it is.
        """
        assert passes >= 1, passes
        assert noise_variance >= 0, noise_variance
        assert max_angle_deg >= 0, max_angle_deg
        self._network, self._exclusive, self._passes, self._rng = network, exclusive, passes, rng
        self._spacing_mm = tuple(float(step) for step in spacing_mm)
        self._noise_std, self._max_angle_deg = float(noise_variance) ** 0.5, max_angle_deg
        self._plain = plain
        self._drawn: _Drawn | None = None

    def __call__(self, data_B_C_xyz: torch.Tensor, range_B_C: torch.Tensor | None = None) -> Samples:
        """Return K samples and, as `visible_B_xyz`, the voxels in view in all of them, the same in each window.

        `range_B_C` is the unit of the noise in each channel of each window, by default that of the intensities.
        A voxel that a rotation moves out of view gets the prediction of the nearest position in view, so probabilities
        of exclusive classes sum to 1 everywhere. A region may have no visible voxel in a window, which the caller must
        handle.
        """
        if self._drawn is None:
            self._drawn = self._draw(data_B_C_xyz[0])
        samples = []
        for transform in self._drawn.transforms:
            assert transform.noise_C_xyz.shape == data_B_C_xyz.shape[1:], "windows of different shapes"
            noise = transform.noise_C_xyz
            if range_B_C is not None:
                noise = noise * range_B_C.to(noise).view(*range_B_C.shape, *[1] * (noise.ndim - 1))
            augmented = transform.rotate(data_B_C_xyz) + noise
            probs_B_C_xyz = deterministic_probabilities(self._network, augmented, self._exclusive)[0]
            # the four weights may add up to more than 1 in the last digit
            samples.append(transform.rotate_back(probs_B_C_xyz).clamp_(0.0, 1.0))
        visible_B_xyz = self._drawn.visible_yx.expand(len(data_B_C_xyz), *data_B_C_xyz.shape[2:])
        return Samples(torch.stack(samples), visible_B_xyz)

    def _draw(self, window_C_xyz: torch.Tensor) -> _Drawn:
        assert len(self._spacing_mm) == window_C_xyz.ndim - 1, (self._spacing_mm, tuple(window_C_xyz.shape))
        plane, steps_mm = window_C_xyz.shape[-2:], self._spacing_mm[-2:]
        visible_yx = np.ones(plane, dtype=bool)
        transforms: list[_Transform] = []
        angles_deg = self._rng.uniform(-self._max_angle_deg, self._max_angle_deg, self._passes - self._plain)
        for angle_deg in [*([0.0] if self._plain else []), *angles_deg]:
            forward = rotated_positions(plane, steps_mm, -angle_deg)
            back = rotated_positions(plane, steps_mm, angle_deg)
            if self._plain and not transforms:
                noise = np.zeros(window_C_xyz.shape, np.float32)
            else:
                noise = self._noise_std * self._rng.standard_normal(window_C_xyz.shape, dtype=np.float32)
            transforms.append(
                _Transform(
                    bilinear(forward, plane).to(window_C_xyz.device, window_C_xyz.dtype),
                    bilinear(nearest_inside(back, plane), plane).to(window_C_xyz.device, torch.float32),
                    torch.from_numpy(noise).to(window_C_xyz),
                )
            )
            visible_yx &= inside(back, plane)
        return _Drawn(transforms, torch.from_numpy(visible_yx).to(window_C_xyz.device))


@dataclass(frozen=True)
class Bilinear:
    """Bilinear interpolation at fixed positions of a plane: four voxels and their weights for each position.

    Not torch's ``grid_sample``: it scales positions to [-1, 1], so that a rotation by 0° would change the last digits
    of the values. Here a weight of 1 returns the value exactly.

    Attributes
    ----------
    places : (4, P), int64, indices of the voxels in the flattened plane
    weights : (4, P), 0 for a voxel outside the plane
    """

    places: torch.Tensor
    weights: torch.Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Bilinear:
        """Return the same interpolation on another device, with weights of ``dtype``."""
        return Bilinear(self.places.to(device), self.weights.to(device, dtype))

    def __call__(self, values_yx: torch.Tensor) -> torch.Tensor:
        """Interpolate values (..., y, x) at P = y · x positions; the result has the same shape."""
        flat = values_yx.flatten(-2)
        result = torch.zeros_like(flat)
        for places_P, weights_P in zip(self.places, self.weights, strict=True):
            result += flat.index_select(-1, places_P) * weights_P
        return result.view(values_yx.shape)


@dataclass(frozen=True)
class _Transform:
    rotate: Bilinear
    rotate_back: Bilinear
    noise_C_xyz: torch.Tensor


@dataclass(frozen=True)
class _Drawn:
    transforms: list[_Transform]
    visible_yx: torch.Tensor


def rotated_positions(plane: Sequence[int], steps_mm: Sequence[float], angle_deg: float) -> np.ndarray:
    """Return the position of each voxel of a plane after a physical rotation about the plane's centre.

    Parameters
    ----------
    plane
        voxels (Y, X).
    steps_mm
        spacing of the two axes.
    angle_deg
        positive angles turn the first axis towards the second.

    Returns
    -------
    np.ndarray
        (2, Y, X) in voxels, float64; may lie outside the plane.
    """
    centre = (np.asarray(plane, dtype=np.float64) - 1).reshape(2, 1, 1) / 2
    y, x = np.indices(plane) - centre
    ratio = steps_mm[1] / steps_mm[0]
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    # by the ratio of the spacings, not by mm and back: a rotation by 0° then keeps each position exactly
    return np.stack([cos * y - sin * ratio * x, sin / ratio * y + cos * x]) + centre


def inside(positions_2_yx: np.ndarray, plane: Sequence[int]) -> np.ndarray:
    """Return bool (Y, X): whether a position lies in the plane, between the centres of its outermost voxels."""
    last = np.asarray(plane).reshape(2, 1, 1) - 1
    return np.all((positions_2_yx >= -_ROUNDING) & (positions_2_yx <= last + _ROUNDING), axis=0)


def nearest_inside(positions_2_yx: np.ndarray, plane: Sequence[int]) -> np.ndarray:
    """Return the positions, those outside moved to the nearest position between the outermost voxels' centres."""
    return np.clip(positions_2_yx, 0, np.asarray(plane).reshape(2, 1, 1) - 1)


def bilinear(positions_2_yx: np.ndarray, plane: Sequence[int]) -> Bilinear:
    """Prepare bilinear interpolation at the positions (2, Y, X), with 0 outside the plane."""
    lower = np.floor(positions_2_yx)
    places, weights = [], []
    for corner in np.array([(0, 0), (0, 1), (1, 0), (1, 1)]).reshape(4, 2, 1, 1):
        place = (lower + corner).astype(np.int64)
        share = np.where(corner == 1, positions_2_yx - lower, 1 - (positions_2_yx - lower)).prod(0)
        within = ((place >= 0) & (place < np.asarray(plane).reshape(2, 1, 1))).all(0)
        places.append(np.where(within, place[0] * plane[1] + place[1], 0).ravel())
        weights.append(np.where(within, share, 0.0).ravel())
    return Bilinear(torch.from_numpy(np.stack(places)), torch.from_numpy(np.stack(weights)))
