"""Deformations learnt from heads whose caudates differ in a known way."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK

from nnunet_al.errors import DatasetError
from nnunet_al.synthetic.bspline_fit import extend
from nnunet_al.synthetic.case import Cohort, make_case
from nnunet_al.synthetic.cohort import make_biased_cohort
from nnunet_al.synthetic.deformation import exponential
from nnunet_al.synthetic.design import BIASED, CohortDesign, cases_of
from nnunet_al.synthetic.population import PopulationBasis, read_population
from nnunet_al.synthetic.registration import register, signed_distance
from nnunet_al.synthetic.template import LEFT_CAUDATE, Grid, LabelMap
from nnunet_al.synthetic.velocity import GlobalBasis

from .tiny_head import SPACING, tiny_head


def shifted(voxels: int) -> LabelMap:
    """The tiny head with both caudates moved to the back by as many voxels; their midpoint moves with them."""
    labels = tiny_head().labels_zyx.copy()
    caudates = np.isin(labels, (11, 50))
    moved = np.roll(np.where(caudates, labels, 0), voxels, axis=1)
    labels[caudates] = 2
    return LabelMap(np.where(moved > 0, moved, labels), SPACING)


def apart(voxels: int) -> LabelMap:
    """The tiny head with its left caudate alone moved to the left; the midpoint moves by half as much."""
    labels = tiny_head().labels_zyx.copy()
    moved = np.roll(labels == LEFT_CAUDATE, voxels, axis=2)
    labels[labels == LEFT_CAUDATE] = 2
    labels[moved] = LEFT_CAUDATE
    return LabelMap(labels, SPACING)


@pytest.fixture(scope="module")
def basis() -> PopulationBasis:
    return PopulationBasis.learn(tiny_head(), [apart(-2), apart(0), apart(2)])


def test_splines_give_back_a_smooth_field_and_vanish_far_from_the_data():
    shape = (30, 30, 30)
    z, y, x = np.indices(shape) / 29
    field = np.stack([z + y, 1 - x, z * x])
    inside = (z - 0.25) ** 2 + (y - 0.5) ** 2 + (x - 0.5) ** 2 < 0.15**2
    found = extend(field[:, inside], np.stack(np.nonzero(inside)), shape)
    errors = np.abs(found - field)[:, inside]
    assert errors.mean() < 0.06 * np.abs(field[:, inside]).mean(), "an approximation, worst at the border"
    assert not found[:, 26:].any()
    assert not extend(np.zeros((3, 4)), np.arange(12).reshape(3, 4), shape).any()


def test_a_registration_finds_a_shift():
    lattice = Grid((22, 24, 20), (2.0,) * 3, (-21.0, -23.0, -5.0))
    # with the midpoint between both caudates as origin, moving one moves the other the other way
    fixed, moving = (signed_distance(head, LEFT_CAUDATE, lattice) for head in (tiny_head(), apart(2)))
    velocity = register(fixed, moving, lattice)
    moved = exponential(velocity, lattice).vectors_3_zyx[:, fixed < 0]
    np.testing.assert_allclose(moved.mean(1), (0, 0, 1.5), atol=0.25)  # 3 mm, less half of that


def test_distances_are_negative_inside_and_cut_off():
    lattice = Grid((4, 4, 60), (2.0,) * 3, (-3.0, -5.0, -59.0))
    distance = signed_distance(tiny_head(), LEFT_CAUDATE, lattice)
    assert (distance.min(), distance.max()) == (pytest.approx(-3.7, abs=1), 8)


def test_the_first_component_is_how_the_heads_differ(basis):
    assert basis.facts["heads"] == 3
    assert basis.facts["explained_variance"] > 0.9
    assert basis.facts["translation_share"] > 0.9
    *others, left = basis.facts["translation_mm"]
    assert left == pytest.approx(1.5, abs=0.2), "-1.5, 0 and 1.5 mm have a standard deviation of 1.5 mm"
    assert np.abs(others).max() < 0.2
    other_way = PopulationBasis.learn(tiny_head(), [apart(-2), apart(0), apart(2)], sign=-1)
    np.testing.assert_array_equal(other_way.component_3_zyx, -basis.component_3_zyx)
    np.testing.assert_array_equal(other_way.mean_3_zyx, basis.mean_3_zyx)


def test_heads_that_move_as_a_whole_do_not_differ():
    with pytest.raises(DatasetError, match="same left caudate"):
        PopulationBasis.learn(tiny_head(), [shifted(-1), shifted(0), shifted(1)])
    with pytest.raises(DatasetError, match="at least 3"):
        PopulationBasis.learn(tiny_head(), [shifted(0)] * 2)


@pytest.mark.parametrize("sign", [1, -1])
def test_group_1_is_shifted_by_its_strength_and_neighbours_go_along(sign):
    design = CohortDesign(cases=2, strength="strong", component_sign=sign, subject="one_factor", appearance="plain")
    cohort = Cohort.of(design, tiny_head(), [apart(-2), apart(0), apart(2)])
    case = next(case for case in cases_of(design) if case.group == BIASED)
    made, plain = make_case(cohort, case), make_case(cohort, type(case)(case.number, "group2", 0.0, case.couple))
    places = [np.argwhere(one.labels_zyx == LEFT_CAUDATE).mean(0) * SPACING for one in (made, plain)]
    shift = places[0] - places[1]
    assert shift[2] == pytest.approx(sign * 1.5 * case.strength, rel=0.35)
    assert np.abs(shift[:2]).max() < 1
    assert (made.labels_zyx != plain.labels_zyx)[plain.labels_zyx == 4].any(), "the ventricle beside it, too"


def test_the_cohort_says_how_it_was_learnt(tmp_path):
    heads = [apart(-2), apart(0), apart(2)]
    design = CohortDesign(cases=2, appearance="plain", subject="one_factor")
    folder = make_biased_cohort(tmp_path / "Dataset001_Caudate", design, tiny_head(), population=heads)
    content = json.loads((folder / "cohort.json").read_text())
    assert content["population"]["heads"] == 3
    assert content["population"]["sign"] == content["design"]["component_sign"] == 1
    assert (content["design"]["subject"], content["design"]["appearance"]) == ("one_factor", "plain")


def test_a_plain_image_holds_one_value_per_tissue_but_for_its_borders():
    design = CohortDesign(cases=2, strength="none", appearance="plain", subject="one_factor")
    cohort = Cohort.of(design, tiny_head())
    first, second = (make_case(cohort, case) for case in cases_of(design))
    values = [np.bincount(one.image_zyx[one.labels_zyx == 2]).argmax() for one in (first, second)]
    assert values[0] == values[1], "no tissue differs between cases"


def test_one_number_makes_a_subject():
    grid = Grid((6, 6, 6), (8.0,) * 3, (-24.0,) * 3)
    basis = GlobalBasis.draw(np.random.default_rng(0))
    first, second = (basis.velocity(grid, np.random.default_rng(seed), one_factor=True) for seed in (1, 2))
    ratio = (first * second).sum() / (second**2).sum()
    np.testing.assert_allclose(first, ratio * second, atol=1e-5)


def test_a_folder_of_label_maps_is_read_without_the_template(tmp_path):
    for name, head in (("b", apart(0)), ("a", apart(1)), ("template", tiny_head())):
        image = SimpleITK.GetImageFromArray(head.labels_zyx)
        image.SetSpacing(SPACING)
        SimpleITK.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    heads = read_population(tmp_path, tmp_path / "template.nii.gz")
    assert len(heads) == 2
    np.testing.assert_array_equal(heads[0].labels_zyx, apart(1).labels_zyx)
    with pytest.raises(DatasetError, match="no such folder"):
        read_population(tmp_path / "nowhere")
