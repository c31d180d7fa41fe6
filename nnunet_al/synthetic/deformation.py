"""Diffeomorphisms: the flow of a stationary velocity field, its interpolation, and its Jacobian determinant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import map_coordinates, spline_filter

from nnunet_al.synthetic.template import Grid

LONGEST_FIRST_STEP = 0.125
"""Largest first step of scaling and squaring, in spacings of the lattice."""
MAX_SLOPE = 0.4
"""Largest slope, in mm per mm, of a velocity field that is integrated at once, see `flow`."""

RIPPLE_MM = 1e-4
"""Size of the ripple of cubic splines far from a vector: `flow` ignores smaller displacements."""


@dataclass(frozen=True, eq=False)
class Displacement:
    """Vectors at the nodes of a lattice, interpolated by cubic splines.

    Attributes
    ----------
    vectors_3_zyx : float32, components z, y, x in mm
    lattice : positions of the nodes
    """

    vectors_3_zyx: np.ndarray
    lattice: Grid

    def on(self, axes: Sequence[np.ndarray]) -> np.ndarray:
        """Return ``vectors_3_zyx`` on the product of three axes in mm that lie within the lattice."""
        values = self.vectors_3_zyx.astype(np.float32)
        for axis, (nodes, points) in enumerate(zip(self.lattice.axes(), axes, strict=True), start=1):
            values = CubicSpline(nodes, values, axis=axis)(points).astype(np.float32)
        return values

    def at(self, points_3_N: np.ndarray) -> np.ndarray:
        """Return ``vectors_3_N`` at scattered points in mm; 0 outside the lattice."""
        origin = np.array(self.lattice.origin_mm, dtype=np.float32)[:, None]
        last = origin + ((np.array(self.lattice.shape) - 1) * self.lattice.spacing_mm)[:, None]
        inside_N = ((points_3_N >= origin) & (points_3_N <= last)).all(0)
        vectors_3_N = np.zeros_like(points_3_N)
        steps = np.array(self.lattice.spacing_mm, dtype=np.float32)[:, None]
        nodes_3_N = (points_3_N[:, inside_N] - origin) / steps
        vectors_3_N[:, inside_N] = _sample(self.vectors_3_zyx, nodes_3_N)
        return vectors_3_N


def exponential(velocity_3_zyx: np.ndarray, lattice: Grid) -> Displacement:
    r"""Integrate a stationary velocity field for one unit of time: :math:`\varphi = \exp(v)`.

    Scaling and squaring (Arsigny et al. 2006): :math:`\exp(v) = \exp(v / 2^n)^{2^n}` with :math:`\exp(v / 2^n) \approx
    \mathrm{id} + v / 2^n`, where n is the smallest number for which no vector of the first step, and no difference
    between neighbours, is larger than `LONGEST_FIRST_STEP` nodes.

    Vectors are in mm per unit of time. The field is mirrored at the faces of the lattice, so leave a margin around the
    region of interest.

    Returns
    -------
    Displacement
        :math:`\varphi(x) - x` in mm.
    """
    steps = np.array(lattice.spacing_mm, dtype=np.float32).reshape(3, 1, 1, 1)
    in_nodes_3_zyx = (velocity_3_zyx / steps).astype(np.float32)
    longest = float(np.sqrt((in_nodes_3_zyx**2).sum(0).max()))
    differences = [np.abs(np.diff(in_nodes_3_zyx, axis=axis)).max(initial=0.0) for axis in (1, 2, 3)]
    longest = max(longest, *(float(value) for value in differences))
    squarings = max(0, int(np.ceil(np.log2(max(longest / LONGEST_FIRST_STEP, 1e-30)))))
    identity = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in lattice.shape], indexing="ij"))
    displacement = in_nodes_3_zyx / 2**squarings
    for _ in range(squarings):
        displacement = displacement + _sample(displacement, identity + displacement)
    return Displacement(displacement * steps, lattice)


def flow(velocity_3_zyx: np.ndarray, lattice: Grid, points_3_N: np.ndarray) -> np.ndarray:
    r"""Return the positions ``points_3_N`` of points in mm after one unit of time; points outside the lattice stay.

    For a strongly compressing flow :math:`\exp(v)` is too steep for the lattice. Therefore the lattice holds
    :math:`\psi = \exp(v / m)`, with m so large that its slope is at most about `MAX_SLOPE`, and :math:`\psi` is applied
    to the points m times.
    """
    slopes = [
        np.abs(np.diff(velocity_3_zyx, axis=axis)).max(initial=0.0) / step
        for axis, step in zip((1, 2, 3), lattice.spacing_mm, strict=True)
    ]
    times = max(1, int(np.ceil(max(float(slope) for slope in slopes) / MAX_SLOPE)))
    step = exponential(velocity_3_zyx / times, lattice)
    moved_3_N = points_3_N.copy()
    first_3_N = step.at(points_3_N)
    moving_N = np.abs(first_3_N).max(0) > RIPPLE_MM
    some_3_M = points_3_N[:, moving_N] + first_3_N[:, moving_N]
    for _ in range(times - 1):
        some_3_M = some_3_M + step.at(some_3_M)
    moved_3_N[:, moving_N] = some_3_M
    return moved_3_N


def jacobian_determinant(positions_3_zyx: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Return the determinant of a map's derivative on a grid of voxels, ``determinant_zyx``, by central differences.

    ``positions_3_zyx`` are the target positions of the voxels in mm.
    """
    rows = [np.gradient(component_zyx, *spacing_mm) for component_zyx in positions_3_zyx]
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _sample(vectors_3_zyx: np.ndarray, nodes_3_any: np.ndarray) -> np.ndarray:
    values = np.empty(nodes_3_any.shape, dtype=np.float32)
    for component, field_zyx in enumerate(vectors_3_zyx):
        coefficients = spline_filter(field_zyx, order=3, output=np.float32, mode="mirror")
        map_coordinates(coefficients, nodes_3_any, values[component], order=3, mode="mirror", prefilter=False)
    return values
