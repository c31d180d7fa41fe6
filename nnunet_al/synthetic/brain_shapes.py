"""Shapes of the brain phantom: ellipsoids, and bodies swept by an ellipse.

All lengths are in mm, in axes of the head: w upwards, v to the back, u away from the midline; the origin is near the
midpoint between the caudate nuclei.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and semi-axes (w, v, u) in mm; ``below`` replaces the semi-axis along w below the centre."""

    centre: tuple[float, float, float]
    semi_axes: tuple[float, float, float]
    below: float | None = None

    def depth(self, points_3_N: Floats) -> Floats:
        """Return the approximate depth of each point below the surface, in mm; negative outside.

        With ρ = |p / a|, the surface is ρ = 1, and its distance to first order (1 - ρ) / |∇ρ|.
        """
        offsets_3_N = points_3_N - np.array(self.centre)[:, None]
        axes_3_N = np.broadcast_to(np.array(self.semi_axes)[:, None], offsets_3_N.shape).copy()
        if self.below is not None:
            axes_3_N[0, offsets_3_N[0] < 0] = self.below
        scaled_3_N = offsets_3_N / axes_3_N
        rho_N = np.sqrt((scaled_3_N**2).sum(0))
        slope_N = np.sqrt(((scaled_3_N / axes_3_N) ** 2).sum(0)) / np.maximum(rho_N, 1e-9)
        return (1 - rho_N) / np.maximum(slope_N, 1e-9)

    def contains(self, points_3_N: Floats) -> Bools:
        """Return which points lie inside."""
        return self.depth(points_3_N) > 0


@dataclass(frozen=True)
class Sweep:
    """A body whose cross-sections perpendicular to one axis are ellipses.

    Attributes
    ----------
    axis : 0, 1 or 2: the axis w, v or u along which the ellipse moves
    rows : position along the axis; the ellipse's centre on the other two axes, in their order; its semi-axes in mm; and
        the angle in degrees of the first semi-axis, from the first towards the second of the other axes. Values between
        the rows are interpolated without overshoot.
    """

    axis: int
    rows: tuple[tuple[float, ...], ...]

    def contains(self, points_3_N: Floats) -> Bools:
        """Return which points lie inside."""
        rows = np.array(self.rows)
        along_N = points_3_N[self.axis]
        first_N, second_N = (points_3_N[axis] for axis in range(3) if axis != self.axis)
        inside_N = (along_N > rows[0, 0]) & (along_N < rows[-1, 0])
        reach = rows[:, 3:5].max()
        for other_N, centre in ((first_N, rows[:, 1]), (second_N, rows[:, 2])):
            inside_N &= (other_N > centre.min() - reach) & (other_N < centre.max() + reach)
        near = np.flatnonzero(inside_N)
        curve = PchipInterpolator(rows[:, 0], rows[:, 1:])(along_N[near])
        from_first_M, from_second_M = first_N[near] - curve[:, 0], second_N[near] - curve[:, 1]
        lean_M = np.radians(curve[:, 4])
        major_M = from_first_M * np.cos(lean_M) + from_second_M * np.sin(lean_M)
        minor_M = from_second_M * np.cos(lean_M) - from_first_M * np.sin(lean_M)
        inside_N[near] = (major_M / curve[:, 2]) ** 2 + (minor_M / curve[:, 3]) ** 2 < 1
        return inside_N


Shape = Ellipsoid | Sweep
