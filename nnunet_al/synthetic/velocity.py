"""Velocity fields of a cohort: the global deformation of all heads, and the local one of one group's left caudate.

Both are sums over "principal components" that are drawn once for a cohort, as in SimBA (Stanley et al. 2023), whose
components are learnt from scans; here they are smooth random fields. Positions are in mm from the midpoint between both
caudates, so that the fields do not depend on the resolution and the crop of the images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from nnunet_al.errors import DatasetError
from nnunet_al.synthetic.template import LEFT_CAUDATE, Grid, LabelMap, native_grid

_BOX_NODES, _BOX_MM = 32, 8.0  # components repeat after 256 mm, more than the size of a head
_LENGTHS_MM = (40.0, 40.0, 40.0, 40.0, 32.0, 32.0, 32.0, 32.0, 25.0, 25.0, 25.0, 25.0, 20.0, 20.0, 16.0, 16.0)
_SMOOTH_MM = 2.6  # root mean square length of the sum of smooth components
_DECAY = 0.92  # factor between the standard deviations of consecutive components
_SCALING, _SHEARING = 0.035, 0.015  # standard deviations of the affine components' coefficients

GLOBAL_NODE_MM, GLOBAL_MARGIN_MM = 4.0, 24.0
LOCAL_NODE_MM, LOCAL_MARGIN_MM = 1.0, 18.0

MOVABLE = (2, LEFT_CAUDATE, 77, 78)
"""Labels that the local deformation may move: the left caudate and white matter, healthy or not."""
OUTWARD_MM = 0.6
"""Length of the outward flow at the caudate's surface for a coefficient of 1, far from immovable structures."""
_REACH_MM, _RAMP_MM = 16.0, 2.5
_LOCAL_COMPONENTS, _LOCAL_LENGTH_MM, _LOCAL_MM = 4, 6.0, 0.25


@dataclass(frozen=True, eq=False)
class GlobalBasis:
    """Components of the global deformation, which every case has, and standard deviations of their coefficients in mm.

    Components are smooth vector fields on a periodic box of nodes 8 mm apart, of root mean square length 1.
    """

    components_k_3_zyx: np.ndarray
    deviations_k: np.ndarray

    @staticmethod
    def draw(rng: np.random.Generator) -> GlobalBasis:
        """Draw the components of a cohort."""
        components = [_smooth_field((_BOX_NODES,) * 3, length / _BOX_MM, rng, "wrap") for length in _LENGTHS_MM]
        deviations_k = _DECAY ** np.arange(len(_LENGTHS_MM))
        deviations_k *= _SMOOTH_MM / np.sqrt((deviations_k**2).sum())
        return GlobalBasis(np.stack(components), deviations_k)

    def velocity(self, lattice: Grid, rng: np.random.Generator, one_factor: bool = False) -> np.ndarray:
        r"""Draw one case's :math:`v(x) = A x + \sum_k c_k s_k v_k(x)`, :math:`c_k \sim N(0, 1)`, in mm on a lattice.

        :math:`A` is symmetric: scalings of the axes with a standard deviation of 3.5 %, shears with one of 1.5 %. With
        ``one_factor`` :math:`v(x) = c \sum_{k \le 10} s_k v_k(x)`: all cases lie on one line.
        """
        if one_factor:
            first_k = np.arange(len(self.deviations_k)) < 10
            return self._on(lattice, rng.standard_normal() * self.deviations_k * first_k).astype(np.float32)
        coefficients_k = rng.standard_normal(len(self.deviations_k)) * self.deviations_k
        diagonal, shears = _SCALING * rng.standard_normal(3), _SHEARING * rng.standard_normal(3)
        affine = np.diag(diagonal)
        for (row, column), shear in zip(((0, 1), (0, 2), (1, 2)), shears, strict=True):
            affine[row, column] = affine[column, row] = shear
        velocity_3_zyx = np.einsum("ij,jzyx->izyx", affine, lattice.positions())
        velocity_3_zyx += self._on(lattice, coefficients_k)
        return velocity_3_zyx.astype(np.float32)

    def _on(self, lattice: Grid, coefficients_k: np.ndarray) -> np.ndarray:
        field_3_box = np.tensordot(coefficients_k, self.components_k_3_zyx, 1)
        nodes_3_zyx = lattice.positions() / _BOX_MM
        return np.stack([map_coordinates(one, nodes_3_zyx, order=3, mode="grid-wrap") for one in field_3_box])


def global_lattice(grid: Grid) -> Grid:
    """Return nodes 4 mm apart that cover an image's grid and a margin, at positions independent of the grid."""
    first = np.array([axis[0] for axis in grid.axes()]) - GLOBAL_MARGIN_MM
    last = np.array([axis[-1] for axis in grid.axes()]) + GLOBAL_MARGIN_MM
    return lattice_over(first, last, GLOBAL_NODE_MM)


@dataclass(frozen=True, eq=False)
class LocalBasis:
    """Components of the deformation of the left caudate.

    Attributes
    ----------
    components_k_3_zyx : vector fields in mm; the first points out of the caudate, the others are smooth and random; all
        are 0 in and next to all labels except `MOVABLE`, and more than 16 mm from the caudate
    lattice : positions of the nodes
    """

    components_k_3_zyx: np.ndarray
    lattice: Grid

    @staticmethod
    def draw(template: LabelMap, rng: np.random.Generator) -> LocalBasis:
        r"""Make the outward component from the template and draw the others.

        With the signed distance d to the caudate's surface, smoothed over 1.5 mm, the outward component is
        :math:`0.6\,\mathrm{mm} \cdot w(x)\, p(d(x)) \nabla d(x)`; p is 1 at the surface and inside and falls to 0 at 16
        mm; w rises linearly, which compresses least, from 0 at the nodes next to immovable ones to 1 at 2.5 mm from
        there.

        Raises DatasetError if there is no white matter into which the caudate can grow.
        """
        lattice = _local_lattice(template)
        labels_zyx = labels_on(template, lattice)
        caudate_zyx = labels_zyx == LEFT_CAUDATE
        inside_mm = distance_transform_edt(caudate_zyx, sampling=lattice.spacing_mm)
        outside_mm = distance_transform_edt(~caudate_zyx, sampling=lattice.spacing_mm)
        frozen_zyx = ~np.isin(labels_zyx, MOVABLE)
        frozen_mm = distance_transform_edt(~frozen_zyx, sampling=lattice.spacing_mm)
        # 0 up to the next node, so that the interpolation between nodes moves nothing within an immovable voxel
        window_zyx = np.clip((frozen_mm - max(lattice.spacing_mm)) / _RAMP_MM, 0, 1) * _smooth_step(
            1 - outside_mm / _REACH_MM
        )
        if not window_zyx[outside_mm > 0].any():
            raise DatasetError(
                "The template's left caudate has no white matter (2) around it into which it can grow: "
                "give a label map of the whole brain."
            )
        distance_mm = gaussian_filter(outside_mm - inside_mm, 1.5 / np.array(lattice.spacing_mm))
        outward_3_zyx = np.stack(np.gradient(distance_mm, *lattice.spacing_mm))
        components = [OUTWARD_MM * window_zyx * outward_3_zyx]
        for _ in range(_LOCAL_COMPONENTS):
            field_3_zyx = _smooth_field(lattice.shape, _LOCAL_LENGTH_MM / np.array(lattice.spacing_mm), rng, "nearest")
            components.append(_LOCAL_MM * window_zyx * field_3_zyx)
        return LocalBasis(np.stack(components).astype(np.float32), lattice)

    def velocity(self, strength: float, rng: np.random.Generator) -> np.ndarray:
        r"""Draw one case's :math:`v(x) = a_1 u_1(x) + \sum_{k>1} c_k u_k(x)`, :math:`c_k \sim N(0, 1)`, in mm.

        ``strength`` is :math:`a_1`; where it is positive the caudate grows.
        """
        coefficients_k = np.array([strength, *rng.standard_normal(len(self.components_k_3_zyx) - 1)])
        # images are resampled by the inverse map: to grow, a structure has to be mapped inwards
        return -np.tensordot(coefficients_k.astype(np.float32), self.components_k_3_zyx, 1)


def _local_lattice(template: LabelMap) -> Grid:
    """Return nodes about 1 mm apart around the caudate, none of them on the border of two voxels of the template."""
    native, voxels = native_grid(template), np.argwhere(template.labels_zyx == LEFT_CAUDATE)
    lattice = []
    for axis, (step, origin) in enumerate(zip(native.spacing_mm, native.origin_mm, strict=True)):
        nodes_per_voxel = max(1, int(step / LOCAL_NODE_MM + 1e-6))
        stride = max(1, int(LOCAL_NODE_MM / step + 1e-6))
        margin = int(np.ceil(LOCAL_MARGIN_MM / step))
        first, last = int(voxels[:, axis].min()) - margin, int(voxels[:, axis].max()) + margin
        node = step * stride / nodes_per_voxel
        count = ((last - first) // stride + 1) * nodes_per_voxel
        lattice.append((count, node, origin + first * step - (nodes_per_voxel - 1) / 2 * node))
    shape, spacing, origins = zip(*lattice, strict=True)
    return Grid(shape, spacing, origins)


def labels_on(template: LabelMap, lattice: Grid) -> np.ndarray:
    """Return the template's label at each node of a lattice; beyond a face of the template, the label at the face."""
    native = native_grid(template)
    picks = []
    for points, origin, step, length in zip(
        lattice.axes(), native.origin_mm, native.spacing_mm, native.shape, strict=True
    ):
        picks.append(np.clip(np.floor((points - origin) / step + 0.5).astype(int), 0, length - 1))
    return template.labels_zyx[np.ix_(*picks)]


def lattice_over(first_mm: np.ndarray, last_mm: np.ndarray, node_mm: float) -> Grid:
    """Return nodes at multiples of ``node_mm`` that cover a box, (z, y, x) of its first and its last corner in mm."""
    low, high = np.floor(first_mm / node_mm).astype(int), np.ceil(last_mm / node_mm).astype(int)
    z, y, x = (int(length) for length in high - low + 1)
    oz, oy, ox = (float(value) for value in low * node_mm)
    return Grid((z, y, x), (node_mm,) * 3, (oz, oy, ox))


def _smooth_field(
    shape: tuple[int, ...], length_nodes: float | np.ndarray, rng: np.random.Generator, mode: str
) -> np.ndarray:
    field_3_zyx = np.stack(
        [gaussian_filter(rng.standard_normal(shape), length_nodes, mode=mode, truncate=3.0) for _ in range(3)]
    )
    return (field_3_zyx / np.sqrt((field_3_zyx**2).sum(0).mean())).astype(np.float32)


def _smooth_step(values: np.ndarray) -> np.ndarray:
    clipped = np.clip(values, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)
