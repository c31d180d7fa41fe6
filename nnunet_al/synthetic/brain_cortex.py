"""The folded surface of the brain phantom: hemispheres, sulci, and the cortex along them.

Lengths in mm and axes w (upwards), v (to the back), u (from the midline) as in `brain_shapes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from nnunet_al.synthetic.brain_shapes import Bools, Ellipsoid, Floats
from nnunet_al.synthetic.tables import read_rows

CEREBRUM = Ellipsoid((0.0, 20.0, 0.0), (52.0, 78.0, 63.5), below=32.0)
TEMPORAL_LOBE = Ellipsoid((-26.0, 18.0, 39.0), (24.0, 44.0, 23.0))
CEREBELLUM = Ellipsoid((-53.0, 62.0, 18.0), (28.0, 32.0, 36.0))
CISTERNS = (Ellipsoid((-38.0, 12.0, 0.0), (19.0, 32.0, 21.0)), Ellipsoid((-13.0, 50.0, 0.0), (10.0, 9.0, 9.0)))
"""Fluid around brain stem and hypothalamus, and above the cerebellum."""

CORE = Ellipsoid((-3.0, 6.0, 0.0), (18.0, 38.0, 36.5))
"""Region without cortex around the basal ganglia."""

_FOLDING_CENTRE = np.array([-2.0, 20.0, 24.0])  # sulci run from the surface of a hemisphere towards this point
_SULCI_MM, _SULCUS_HALF_WIDTH_MM, _CORTEX_MM = 10.5, 0.7, 2.6
_FOLDING_WAVES = 24
_CALLOSUM = [[float(value) for value in row.values()] for row in read_rows("callosum.csv")]  # the arc in the midline


def hull_depth(points_3_N: Floats) -> Floats:
    """Return the depth of points in the intracranial volume, in mm; negative outside."""
    parts = (CEREBRUM, TEMPORAL_LOBE, CEREBELLUM, *CISTERNS)
    return np.max([part.depth(points_3_N) for part in parts], axis=0)


def hemisphere_tissue(points_3_N: Floats, left_N: Bools) -> npt.NDArray[np.int8]:
    """Return 0 for fluid, 1 for cortex, 2 for white matter at points within the skull.

    Fluid lies outside the hemispheres' hulls and in the sulci; cortex is the tissue at most 2.6 mm away from fluid.
    Sulci are the zeros of a sum of plane waves on the hull, extended towards the centre of the hemisphere to different
    depths; the Sylvian fissure with the insula is defined separately. Both sides have similar but not equal folds.
    """
    depth_N = np.maximum(CEREBRUM.depth(points_3_N), TEMPORAL_LOBE.depth(points_3_N))
    depth_N = np.minimum(depth_N, points_3_N[2] - 1.2)  # the falx keeps the hemispheres apart
    for other in (CEREBELLUM, *CISTERNS):
        depth_N = np.minimum(depth_N, -other.depth(points_3_N) - 1.0)
    tissue_N = np.where(depth_N < 0, 0, 2).astype(np.int8)
    outer = np.flatnonzero((depth_N >= 0) & (depth_N < 24))
    to_fluid = np.minimum(depth_N[outer], _sulci(points_3_N[:, outer], left_N[outer], depth_N[outer]))
    to_fluid = np.minimum(to_fluid, _sylvian_fissure(points_3_N[:, outer]))
    tissue_N[outer] = np.select([to_fluid < 0, to_fluid < _CORTEX_MM], [0, 1], 2)
    tissue_N[CORE.contains(points_3_N) | _callosum(points_3_N)] = 2
    for cistern in CISTERNS:
        tissue_N[cistern.contains(points_3_N)] = 0
    return tissue_N


def waves(points_3_N: Floats, wavelength_mm: float, count: int, shift: npt.ArrayLike = 0.0) -> Floats:
    """Return a sum (N,) of plane waves of similar wavelengths, with root mean square 1 and without randomness.

    ``shift``, (N,) or a number, moves the phases.
    """
    angles = (angle_N for _, angle_N in _plane_waves(points_3_N, wavelength_mm, count, shift))
    return np.sqrt(2 / count) * sum((np.sin(angle_N) for angle_N in angles), np.zeros(points_3_N.shape[1]))


def _plane_waves(
    points_3_N: Floats, wavelength_mm: float, count: int, shift: npt.ArrayLike
) -> Iterator[tuple[Floats, Floats]]:
    """Yield wave vectors (3,) in 1/mm and angles (N,), spread by the golden angle and the square roots of 2 and 3."""
    for k in range(count):
        height, turn = 1 - (2 * k + 1) / count, k * np.pi * (3 - np.sqrt(5))
        radius = np.sqrt(1 - height**2)
        stretch = 0.85 + 0.3 * ((k * np.sqrt(3)) % 1)  # different wavelengths, so that folds do not repeat
        wave_3 = 2 * np.pi / wavelength_mm * stretch * np.array([height, radius * np.cos(turn), radius * np.sin(turn)])
        # not a matrix product, which may round differently for another number of points
        angle_N = wave_3[0] * points_3_N[0] + wave_3[1] * points_3_N[1] + wave_3[2] * points_3_N[2]
        yield wave_3, angle_N + 2 * np.pi * ((k * np.sqrt(2)) % 1) + np.asarray(shift) * (1 + k % 3)


def _sulci(points_3_N: Floats, left_N: Bools, depth_N: Floats) -> Floats:
    """Return the distance to the nearest sulcus in mm, to first order; negative within."""
    bent_3_N = np.stack([2.2 * waves(points_3_N, 34.0, 7, shift) for shift in (0.0, 2.0, 4.0)])
    offsets_3_N = points_3_N + bent_3_N - _FOLDING_CENTRE[:, None]
    radius_N = np.sqrt((offsets_3_N**2).sum(0))
    directions_3_N = offsets_3_N / np.maximum(radius_N, 1e-9)
    to_surface_N = radius_N + depth_N
    surface_3_N = _FOLDING_CENTRE[:, None] + to_surface_N * directions_3_N
    folds_N, gradient_3_N = np.zeros(len(radius_N)), np.zeros(points_3_N.shape)
    for wave_3, angle_N in _plane_waves(surface_3_N, 2 * _SULCI_MM, _FOLDING_WAVES, 0.5 * left_N):
        folds_N += np.sin(angle_N)
        gradient_3_N += wave_3[:, None] * np.cos(angle_N)
    tangential_3_N = gradient_3_N - (gradient_3_N * directions_3_N).sum(0) * directions_3_N
    # where two sulci cross, the field is flat: without this lower limit they would join in a wide pool of fluid
    slope_N = np.sqrt((tangential_3_N**2).sum(0) + _FOLDING_WAVES / 2 * (0.6 / _SULCI_MM) ** 2)
    across_N = np.abs(folds_N) / slope_N * radius_N / to_surface_N
    ends_N = 13 + 4 * waves(surface_3_N, 45.0, 9).clip(-1.5, 1.5)
    return np.hypot(across_N, np.maximum(depth_N - ends_N, 0)) - _SULCUS_HALF_WIDTH_MM


def _sylvian_fissure(points_3_N: Floats) -> Floats:
    """Return the distance in mm to the Sylvian fissure: a slit from the side to the insula, and one along it."""
    w_N, v_N, u_N = points_3_N
    above_N = w_N - (-15.0 + 0.3 * v_N - 0.3 * (u_N - 39)) - 1.5 * waves(points_3_N, 26.0, 5)
    slit = (above_N, np.maximum(np.abs(v_N - 8) - 28, 0), np.maximum(39 - u_N, 0))
    to_slit_N = np.sqrt(sum(part**2 for part in slit))
    rim_N = 11 * (np.hypot((above_N - 4) / 11, (v_N - 6) / 21) - 1)
    bent_N = u_N - 40.5 + 0.006 * (v_N - 6) ** 2 - 0.8 * waves(points_3_N, 12.0, 5)
    return np.minimum(to_slit_N, np.hypot(np.maximum(rim_N, 0), bent_N)) - 0.9


def _callosum(points_3_N: Floats) -> Bools:
    w_N, v_N, u_N = points_3_N
    near = np.flatnonzero((u_N < 13) & (np.abs(v_N - 9) < 45) & (np.abs(w_N - 3) < 18))
    closest = np.full(len(near), np.inf)
    for (w0, v0, r0), (w1, v1, r1) in pairwise(_CALLOSUM):
        share = ((w_N[near] - w0) * (w1 - w0) + (v_N[near] - v0) * (v1 - v0)) / ((w1 - w0) ** 2 + (v1 - v0) ** 2)
        share = share.clip(0, 1)
        distance = np.hypot(w_N[near] - w0 - share * (w1 - w0), v_N[near] - v0 - share * (v1 - v0))
        distance = np.hypot(distance, np.maximum(u_N[near] - 5, 0) / 2)
        closest = np.minimum(closest, distance - r0 - share * (r1 - r0))
    inside_N = np.zeros(points_3_N.shape[1], bool)
    inside_N[near] = closest < 0
    return inside_N
