"""The deformation of the left caudate as it varies within a population of heads, as in SimBA (Stanley et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_al.errors import DatasetError
from nnunet_al.synthetic.bspline_fit import extend
from nnunet_al.synthetic.registration import register, signed_distance
from nnunet_al.synthetic.template import LEFT_CAUDATE, Grid, LabelMap, native_grid, read_template
from nnunet_al.synthetic.velocity import lattice_over

FEWEST_HEADS = 3
NODE_MM = 2.0
_REGISTERED_MM, _MOVED_MM = 12.0, 24.0  # margins around the template's caudate
_EDGE_NODES = 3  # the field falls to 0 over these, since points outside the lattice stay


@dataclass(frozen=True, eq=False)
class PopulationBasis:
    """The left caudate's mean velocity in a population, and its first principal component.

    Attributes
    ----------
    mean_3_zyx, component_3_zyx : velocity fields in mm, forward: the caudate's points move along them; the component
        is one standard deviation of the population long
    lattice : positions of the nodes
    facts : for ``cohort.json``: number of heads, the component's share of the variance, the share of its squared
        length that is a translation, the translation in mm (z, y, x), and its sign
    """

    mean_3_zyx: np.ndarray
    component_3_zyx: np.ndarray
    lattice: Grid
    facts: dict[str, object]

    @staticmethod
    def learn(template: LabelMap, heads: Sequence[LabelMap], sign: int = 1) -> PopulationBasis:
        r"""Register the template's left caudate to each head's, and extend mean and first component around it.

        Heads are aligned by the midpoint between their caudates. Over the template's caudate the velocities
        :math:`v_i` have the mean :math:`\bar v` and the first principal component :math:`u` with the standard deviation
        :math:`\sqrt{\lambda_1}`; both are continued by B-splines, so that neighbours move, too. A component has no
        direction of its own: with ``sign`` 1 its longest translation goes left, back or up, with -1 the other way.

        Raises DatasetError if there are fewer than three heads, or they do not differ.
        """
        if len(heads) < FEWEST_HEADS:
            raise DatasetError(
                f"A population of {len(heads)} heads has no principal component: give label maps of at least "
                f"{FEWEST_HEADS}."
            )
        near, lattice = _lattice(template, _REGISTERED_MM), _lattice(template, _MOVED_MM)
        fixed_zyx = signed_distance(template, LEFT_CAUDATE, near)
        inside_zyx = fixed_zyx < 0
        velocities_H_3_N = np.stack(
            [register(fixed_zyx, signed_distance(head, LEFT_CAUDATE, near), near)[:, inside_zyx] for head in heads]
        )
        mean_3_N = velocities_H_3_N.mean(0)
        _, singular, rows = np.linalg.svd((velocities_H_3_N - mean_3_N).reshape(len(heads), -1), full_matrices=False)
        if not singular[0] > 1e-3:
            raise DatasetError("The heads of the population have the same left caudate: give different ones.")
        component_3_N = rows[0].reshape(mean_3_N.shape) * (singular[0] / np.sqrt(len(heads) - 1))
        translation = component_3_N.mean(1)
        component_3_N *= sign * np.sign(translation[np.abs(translation).argmax()])
        facts = {
            "heads": len(heads),
            "explained_variance": float(singular[0] ** 2 / (singular**2).sum()),
            "translation_share": float((translation**2).sum() * component_3_N.shape[1] / (component_3_N**2).sum()),
            "translation_mm": [round(float(value), 4) for value in component_3_N.mean(1)],
            "sign": sign,
        }
        nodes_3_N = np.stack(np.nonzero(inside_zyx)) + round((_MOVED_MM - _REGISTERED_MM) / NODE_MM)
        mean, component = (_extended(values, nodes_3_N, lattice) for values in (mean_3_N, component_3_N))
        return PopulationBasis(mean, component, lattice, facts)

    def velocity(self, strength: float, rng: np.random.Generator) -> np.ndarray:
        r"""Return one case's :math:`v(x) = \bar v(x) + a \sqrt{\lambda_1} u(x)` in mm; ``strength`` is a."""
        # images are resampled by the inverse map: to move a structure, its new place has to be mapped to the old one
        return -(self.mean_3_zyx + np.float32(strength) * self.component_3_zyx)


def read_population(folder: Path, leave_out: Path | None = None) -> list[LabelMap]:
    """Read all label maps of a folder, in the order of their names, without the template if it is one of them.

    Raises DatasetError if there is no such folder or a map cannot be used, see `read_template`.
    """
    if not folder.is_dir():
        raise DatasetError(f"-population {folder}: there is no such folder; give one of label maps of heads.")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return [read_template(path) for path in files if leave_out is None or path.resolve() != leave_out.resolve()]


def _lattice(template: LabelMap, margin_mm: float) -> Grid:
    native = native_grid(template)
    positions = np.argwhere(template.labels_zyx == LEFT_CAUDATE) * native.spacing_mm + native.origin_mm
    return lattice_over(positions.min(0) - margin_mm, positions.max(0) + margin_mm, NODE_MM)


def _extended(values_3_N: np.ndarray, nodes_3_N: np.ndarray, lattice: Grid) -> np.ndarray:
    field_3_zyx = extend(values_3_N, nodes_3_N, lattice.shape)
    for axis, length in enumerate(lattice.shape, start=1):
        edge = np.minimum(np.arange(length), np.arange(length)[::-1]) / _EDGE_NODES
        field_3_zyx *= np.clip(edge, 0, 1).reshape([-1 if place == axis else 1 for place in range(4)])
    return field_3_zyx.astype(np.float32)
