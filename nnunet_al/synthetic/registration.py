"""Registration of one structure of two heads by a stationary velocity field, on signed distances to its surface."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from nnunet_al.synthetic.deformation import exponential
from nnunet_al.synthetic.template import Grid, LabelMap, native_grid

STEPS = 60
SMOOTH_MM = 2.5
"""Standard deviation of the Gaussian that regularises the velocity after each step."""
_BAND_MM = 8.0  # distances beyond this are cut off: what is far from the structure must not drive the registration
_LONGEST_MM = 2.0


def signed_distance(heads: LabelMap, label: int, lattice: Grid) -> np.ndarray:
    """Return the distance in mm to a structure's surface at the nodes of a lattice, negative inside, cut at 8 mm.

    Positions are relative to the midpoint between both caudates of the head (`native_grid`).
    """
    native = native_grid(heads)
    inside_zyx = heads.labels_zyx == label
    distance_mm = distance_transform_edt(~inside_zyx, sampling=native.spacing_mm)
    distance_mm -= distance_transform_edt(inside_zyx, sampling=native.spacing_mm)
    steps, origin = (np.reshape(values, (3, 1, 1, 1)) for values in (native.spacing_mm, native.origin_mm))
    nodes_3_zyx = (lattice.positions() - origin) / steps
    sampled_zyx = map_coordinates(distance_mm, nodes_3_zyx, order=1, mode="nearest")
    return np.clip(sampled_zyx, -_BAND_MM, _BAND_MM).astype(np.float32)


def register(fixed_zyx: np.ndarray, moving_zyx: np.ndarray, lattice: Grid) -> np.ndarray:
    r"""Return the velocity ``v_3_zyx`` in mm with :math:`\text{fixed}(x) \approx \text{moving}(\exp(v)(x))`.

    Log-domain demons (Vercauteren et al. 2008) on signed distances: with the difference d = fixed - moving∘exp(v) and
    the gradient g of the warped distance, each step adds d g / (|g|² + d² / 4 mm²), at most 2 mm long, and smooths v by
    a Gaussian of 2.5 mm. A point x of the fixed structure lies at exp(v)(x) in the moving one.
    """
    steps = np.reshape(lattice.spacing_mm, (3, 1, 1, 1))
    identity_3_zyx = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in lattice.shape], indexing="ij"))
    velocity_3_zyx = np.zeros_like(identity_3_zyx)
    sigma = (0, *(SMOOTH_MM / step for step in lattice.spacing_mm))
    for _ in range(STEPS):
        moved_3_zyx = identity_3_zyx + exponential(velocity_3_zyx, lattice).vectors_3_zyx / steps
        warped_zyx = map_coordinates(moving_zyx, moved_3_zyx, order=1, mode="nearest")
        difference_zyx = fixed_zyx - warped_zyx
        gradient_3_zyx = np.stack(np.gradient(warped_zyx, *lattice.spacing_mm))
        scale_zyx = (gradient_3_zyx**2).sum(0) + (difference_zyx / 2) ** 2
        update_3_zyx = difference_zyx * gradient_3_zyx / np.maximum(scale_zyx, 1e-6)
        length_zyx = np.sqrt((update_3_zyx**2).sum(0))
        update_3_zyx *= np.minimum(1, _LONGEST_MM / np.maximum(length_zyx, 1e-6))
        velocity_3_zyx = gaussian_filter(velocity_3_zyx + update_3_zyx, sigma, mode="nearest").astype(np.float32)
    return velocity_3_zyx
