"""One case of a biased cohort: a template, deformed and painted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from nnunet_al.errors import DatasetError
from nnunet_al.seeding import generator
from nnunet_al.synthetic.appearance import head_mask, paint, plain, scan
from nnunet_al.synthetic.deformation import exponential, flow, jacobian_determinant
from nnunet_al.synthetic.design import BIASED, FEWEST_VOXELS, MOST_VOXELS, Case, CohortDesign
from nnunet_al.synthetic.population import PopulationBasis
from nnunet_al.synthetic.template import LEFT_CAUDATE, Grid, LabelMap, image_grid, native_grid
from nnunet_al.synthetic.velocity import GlobalBasis, LocalBasis, global_lattice

_MARGIN_MM = 4.0  # distance of the caudate from the faces of the images, because it moves and grows
_LEAST_SHARE = 0.9  # smallest share of the caudate with this distance: the end of a thin tail may be missing


@dataclass(frozen=True, eq=False)
class Cohort:
    """Everything that the cases of a cohort have in common.

    ``grid`` are the images' voxels, ``head_zyx`` is the template's head (`head_mask`), and the two bases are the
    components of the deformations of the head and of the left caudate.
    """

    design: CohortDesign
    template: LabelMap
    grid: Grid
    head_zyx: np.ndarray
    global_basis: GlobalBasis
    local_basis: LocalBasis | PopulationBasis

    @staticmethod
    def of(design: CohortDesign, template: LabelMap, population: Sequence[LabelMap] = ()) -> Cohort:
        """Draw the components of the deformations; the local ones are learnt from a ``population`` of heads, if any.

        Raises DatasetError if the caudate has no space to grow, or the images have too few or too many voxels or do not
        contain it.
        """
        grid = image_grid(template, design.shape, design.spacing_mm)
        _check_grid(grid, template)
        return Cohort(
            design,
            template,
            grid,
            head_mask(template.labels_zyx),
            GlobalBasis.draw(generator(design.seed, 0, "cohort components")),
            PopulationBasis.learn(template, population, design.component_sign)
            if population
            else LocalBasis.draw(template, generator(design.seed, 0, "cohort local components")),
        )


@dataclass(frozen=True, eq=False)
class CaseArrays:
    """Arrays of a case: ``image_zyx`` int16, ``labels_zyx`` with the template's numbers; smallest Jacobian."""

    image_zyx: np.ndarray
    labels_zyx: np.ndarray
    smallest_jacobian: float


def make_case(cohort: Cohort, case: Case) -> CaseArrays:
    """Make one case: image(x) = template(local(global(x))), with bias field and noise of a scanner.

    Raises DatasetError if the deformation folds on the images' grid.
    """
    sources_3_zyx = sources(cohort, case)
    smallest = float(jacobian_determinant(sources_3_zyx, cohort.grid.spacing_mm).min())
    if not smallest > 0:
        raise DatasetError(
            f"The deformation of {case.name} folds on voxels of {cohort.grid.spacing_mm} mm (z, y, x; smallest "
            f"Jacobian determinant {smallest:.3g}): ask for a finer -spacing, or for another -seed."
        )
    template, native = cohort.template, native_grid(cohort.template)
    voxels_3_zyx = (sources_3_zyx - _column(native.origin_mm)) / _column(native.spacing_mm)
    del sources_3_zyx
    # Positions that the deformation moves beyond a face of the template get the values at the face. Only voxels that
    # are themselves outside the template are empty.
    labels_zyx = map_coordinates(template.labels_zyx, voxels_3_zyx, order=0, mode="nearest")
    head_zyx = map_coordinates(cohort.head_zyx.astype(np.uint8), voxels_3_zyx, order=0, mode="nearest") > 0
    rng = case.generator(cohort.design, "appearance")
    is_plain = cohort.design.appearance == "plain"
    painted_zyx = paint(
        template.labels_zyx, cohort.head_zyx, template.spacing_mm, cohort.grid.spacing_mm, rng, uniform=is_plain
    )
    clean_zyx = map_coordinates(painted_zyx, voxels_3_zyx, order=1, mode="nearest", output=np.float32)
    covered_zyx = _covered(cohort.grid, native)
    labels_zyx[~covered_zyx], head_zyx[~covered_zyx] = 0, False
    image_zyx = plain(clean_zyx, head_zyx) if is_plain else scan(clean_zyx, head_zyx, cohort.grid, rng)
    return CaseArrays(image_zyx, labels_zyx, smallest)


def sources(cohort: Cohort, case: Case) -> np.ndarray:
    """Return the position in the template of each voxel of a case, ``sources_3_zyx`` in mm, float32."""
    lattice = global_lattice(cohort.grid)
    rng, one_factor = case.generator(cohort.design, "anatomy"), cohort.design.subject == "one_factor"
    velocity = cohort.global_basis.velocity(lattice, rng, one_factor)
    axes = cohort.grid.axes()
    sources_3_zyx = exponential(velocity, lattice).on(axes)
    sources_3_zyx += np.stack(np.meshgrid(*axes, indexing="ij", sparse=False)).astype(np.float32)
    if case.group == BIASED and cohort.design.strength != "none":
        rng = generator(cohort.design.seed, 0, f"cohort caudate case {case.number}")
        velocity = cohort.local_basis.velocity(case.strength, rng)
        points_3_N = flow(velocity, cohort.local_basis.lattice, sources_3_zyx.reshape(3, -1))
        sources_3_zyx = points_3_N.reshape(sources_3_zyx.shape)
    return sources_3_zyx


def _check_grid(grid: Grid, template: LabelMap) -> None:
    if min(template.labels_zyx.shape) < FEWEST_VOXELS:
        raise DatasetError(
            f"The template has {template.labels_zyx.shape} voxels (z, y, x): give one of at least {FEWEST_VOXELS} each."
        )
    if min(grid.shape) < FEWEST_VOXELS or max(grid.shape) > MOST_VOXELS:
        raise DatasetError(
            f"Images of {grid.shape} voxels of {grid.spacing_mm} mm (z, y, x) are impossible: ask for a -spacing or a "
            f"-shape that leaves {FEWEST_VOXELS} to {MOST_VOXELS} voxels each."
        )
    native, voxels = native_grid(template), np.nonzero(template.labels_zyx == LEFT_CAUDATE)
    kept_N, enough = np.full(len(voxels[0]), True), []
    for nodes_N, points, step, of_template, native_step in zip(
        voxels, grid.axes(), grid.spacing_mm, native.axes(), native.spacing_mm, strict=True
    ):
        positions_N = of_template[nodes_N]
        faces = np.array([points[0] - step / 2, points[-1] + step / 2])
        beyond = np.array([of_template[0] - native_step / 2, of_template[-1] + native_step / 2])
        # where the images end with the template no margin can be required
        margins = np.where(np.abs(faces - beyond) < 0.01, 0, _MARGIN_MM)
        kept_N &= (positions_N > faces[0] + margins[0]) & (positions_N < faces[1] - margins[1])
        enough.append(max(FEWEST_VOXELS, int(np.ceil(2 * (np.abs(positions_N).max() + _MARGIN_MM) / step)) + 1))
    if kept_N.mean() < _LEAST_SHARE:
        raise DatasetError(
            f"Images of {grid.shape} voxels of {grid.spacing_mm} mm do not hold the left caudate: ask for a larger "
            f"-shape, for all of it {' '.join(map(str, enough))}."
        )


def _covered(grid: Grid, native: Grid) -> np.ndarray:
    inside = [
        (points >= origin - step / 2) & (points <= origin + (length - 0.5) * step)
        for points, origin, step, length in zip(
            grid.axes(), native.origin_mm, native.spacing_mm, native.shape, strict=True
        )
    ]
    return inside[0][:, None, None] & inside[1][:, None] & inside[2]


def _column(values: tuple[float, float, float]) -> np.ndarray:
    return np.array(values, dtype=np.float32).reshape(3, 1, 1, 1)
