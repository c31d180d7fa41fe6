from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nnunet_al.errors import DatasetError
from nnunet_al.synthetic import appearance, case
from nnunet_al.synthetic.case import Cohort, make_case, sources
from nnunet_al.synthetic.deformation import jacobian_determinant
from nnunet_al.synthetic.design import CohortDesign, cases_of
from nnunet_al.synthetic.template import image_grid, native_grid
from nnunet_al.synthetic.tissues import TISSUE_MEANS, tissue_of

from .tiny_head import tiny_head


def cohort_of(**design):
    return Cohort.of(CohortDesign(**{"cases": 4, **design}), tiny_head())


def one_of(cohort, group):
    return next(case for case in cases_of(cohort.design) if case.group == group)


@pytest.fixture(scope="module")
def cohort():
    return cohort_of()


def test_the_map_of_every_case_is_one_to_one(cohort, monkeypatch):
    for some in cases_of(cohort.design)[:2]:
        mapped = sources(cohort, some)
        monkeypatch.setattr(case, "sources", lambda *_, mapped=mapped: mapped)
        made = make_case(cohort, some)
        determinant = jacobian_determinant(mapped, cohort.grid.spacing_mm)
        assert made.smallest_jacobian == pytest.approx(float(determinant.min()))
        assert made.smallest_jacobian > 0
        assert 0.5 < np.abs(mapped - cohort.grid.positions()).max() < 20


def test_a_map_that_folds_is_refused_with_the_case_s_name(cohort, monkeypatch):
    mirrored = np.array([1, 1, -1]).reshape(3, 1, 1, 1)
    monkeypatch.setattr(case, "sources", lambda cohort, _case: cohort.grid.positions() * mirrored)
    with pytest.raises(DatasetError, match=r"sub-0001 folds .* finer -spacing"):
        make_case(cohort, cases_of(cohort.design)[1])


def test_labels_and_image_are_warped_by_the_same_map(cohort, monkeypatch):
    """Without noise, bias and variation between cases a voxel in the midst of a structure has its known intensity."""
    for name in ("NOISE", "BIAS_SPREAD", "TISSUE_SPREAD"):
        monkeypatch.setattr(appearance, name, 0.0)
    made = make_case(cohort, one_of(cohort, "group1"))
    interior = np.ones_like(made.labels_zyx, dtype=bool)
    for axis in range(3):
        for shift in (-2, -1, 1, 2):
            interior &= np.roll(made.labels_zyx, shift, axis) == made.labels_zyx
    seen = 0
    for label in np.unique(made.labels_zyx[interior]):
        values = made.image_zyx[interior & (made.labels_zyx == label)]
        expected = 0.0 if label == 0 else TISSUE_MEANS[tissue_of(int(label))]
        assert np.abs(np.median(values) - expected) <= 1, label
        seen += len(values) > 0
    assert seen >= 6


def test_zero_is_air(cohort):
    made = make_case(cohort, one_of(cohort, "group2"))
    assert np.array_equal(made.image_zyx == 0, made.labels_zyx == 0)
    assert 0.05 < (made.image_zyx == 0).mean() < 0.7


def test_what_lies_beyond_the_template_is_air_and_its_faces_are_not():
    head = tiny_head()
    cut = replace(head, labels_zyx=head.labels_zyx[8:-8])
    cohort = Cohort.of(CohortDesign(cases=2, shape=(40, 44, 44)), cut)
    made = make_case(cohort, one_of(cohort, "group2"))
    filled = np.flatnonzero((made.image_zyx > 0).any((1, 2)))
    assert len(filled) == 20
    assert (np.diff(filled) == 1).all()
    middle = made.image_zyx[filled[0] : filled[-1] + 1, 16:28, 16:28]
    assert (middle > 0).all()


def test_pairs_differ_at_the_caudate_only():
    cohort = cohort_of(paired=True)
    volumes = []
    for couple in range(2):
        pair = [some for some in cases_of(cohort.design) if some.couple == couple]
        pair.sort(key=lambda some: some.group)
        biased, plain = (make_case(cohort, some) for some in pair)
        positions = cohort.grid.positions()
        near = (positions[2] > -8) & (np.abs(positions[0]) < 30) & (np.abs(positions[1]) < 32)
        assert np.array_equal(biased.image_zyx[~near], plain.image_zyx[~near])
        assert not np.array_equal(biased.image_zyx, plain.image_zyx)
        for label in np.unique(cohort.template.labels_zyx):
            one, other = ((made.labels_zyx == label).sum() for made in (biased, plain))
            if label == 11:
                volumes.append(one / other)
            elif other >= 100:  # white matter gives way; it is large
                assert abs(one / other - 1) < (0.06 if label == 2 else 0.02), label
    assert min(volumes) > 1.3  # both of these cases have a strength of about 5


def test_unpaired_cases_share_nothing(cohort):
    first, second = cases_of(cohort.design)[:2]
    assert np.abs(sources(cohort, first) - sources(cohort, second))[:, 0].max() > 1


def test_without_strength_no_caudate_is_deformed():
    cohort = cohort_of(strength="none", paired=True)
    one, other = (sources(cohort, some) for some in cases_of(cohort.design)[:2])
    assert np.array_equal(one, other)


def test_neither_crop_nor_resolution_changes_the_anatomy():
    fine = cohort_of(shape=(21, 21, 25), spacing_mm=(1.5, 1.5, 1.5))
    coarse = cohort_of(shape=(11, 11, 13), spacing_mm=(3.0, 3.0, 3.0))
    # smaller than a cohort's images may be: it cuts the caudate
    small = replace(fine, grid=image_grid(fine.template, (9, 9, 11), (1.5, 1.5, 1.5)))
    some = one_of(fine, "group1")
    mapped = sources(fine, some)
    assert np.abs(mapped[:, ::2, ::2, ::2] - sources(coarse, some)).max() < 0.05
    assert np.abs(mapped[:, 6:-6, 6:-6, 7:-7] - sources(small, some)).max() < 0.05


@pytest.mark.parametrize(
    "design, says",
    [
        # the outermost voxels' centres are at 6.75, 8.7 and 12.75 mm: with 4 mm beyond them 14.3, 17 and 22.3 voxels
        ({"shape": (17, 18, 20)}, r"larger -shape, for all of it 16 19 24\."),
        ({"shape": (8, 40, 40)}, "larger -shape"),
        ({"shape": (40, 40, 15)}, "larger -shape"),
        ({"spacing_mm": (8.0, 3.0, 3.0)}, "8 to 512"),
        ({"spacing_mm": (1.5, 0.1, 1.5)}, "8 to 512"),
    ],
)
def test_images_that_do_not_hold_the_caudate_or_have_no_possible_size_are_refused(design, says):
    with pytest.raises(DatasetError, match=says):
        cohort_of(**design)


def test_all_of_the_caudate_fits_into_the_shape_that_is_asked_for():
    with pytest.raises(DatasetError) as caught:
        cohort_of(shape=(8, 8, 8))
    shape = tuple(int(word) for word in str(caught.value).rstrip(".").split()[-3:])
    held = cohort_of(shape=shape)
    caudate = native_grid(held.template).positions()[:, held.template.labels_zyx == 11]
    for points, positions in zip(held.grid.axes(), caudate, strict=True):
        assert points[0] + 3 < positions.min() < positions.max() < points[-1] - 3


def test_a_template_may_end_at_the_caudate_but_has_eight_voxels_each():
    head = tiny_head()
    _, y, _ = np.nonzero(head.labels_zyx == 11)
    tight = replace(head, labels_zyx=head.labels_zyx[:, y.min() : y.max() + 1])
    assert Cohort.of(CohortDesign(cases=2), tight).grid == native_grid(tight)
    with pytest.raises(DatasetError, match="larger -shape"):
        Cohort.of(CohortDesign(cases=2, shape=(40, 8, 40)), tight)
    for slices in (1, 7):
        thin = replace(head, labels_zyx=head.labels_zyx[18 : 18 + slices])
        with pytest.raises(DatasetError, match=f"template has \\({slices}, 44, 44\\) voxels"):
            Cohort.of(CohortDesign(cases=2, spacing_mm=(0.1, 1.0, 1.0)), thin)


def test_a_real_head():
    import os
    from pathlib import Path

    from nnunet_al.synthetic.template import read_template

    data = os.environ.get("NNUNET_AL_TEST_DATA")
    path = Path(data or "") / "brain_labels" / "brain_01.nii.gz"
    if not data or not path.is_file():
        pytest.skip("NNUNET_AL_TEST_DATA is not set or holds no brain_labels/brain_01.nii.gz.")
    whole = read_template(path)
    head = replace(whole, labels_zyx=whole.labels_zyx[8:68, 35:125, 35:135])
    cohort = Cohort.of(CohortDesign(cases=2, spacing_mm=(3.0, 3.0, 3.0), paired=True), head)
    biased, plain = sorted(cases_of(cohort.design), key=lambda some: some.group)
    one, other = make_case(cohort, biased), make_case(cohort, plain)
    assert one.smallest_jacobian > 0
    assert (one.labels_zyx == 11).sum() > 1.25 * (other.labels_zyx == 11).sum()
    for label in (4, 10, 12, 43, 49, 50, 51):
        before, after = ((made.labels_zyx == label).sum() for made in (other, one))
        assert abs(after / before - 1) < 0.02, label
