from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes

from nnunet_al.errors import DatasetError
from nnunet_al.seeding import generator
from nnunet_al.synthetic.anatomy import LESION, ORGAN, PhantomDesign, draw_phantom

DESIGNS = [
    PhantomDesign(shape=(20, 24, 16)),
    PhantomDesign(shape=(20, 24, 16), channels=2, lesion_in_organ=True),
    PhantomDesign(shape=(16, 24, 24), spacing_mm=(3, 1, 1), modality="CT"),
    PhantomDesign(shape=(16, 16, 16), modality="CT", channels=2, spacing_variation=0),
    PhantomDesign(shape=(1, 40, 40), spacing_mm=(1, 1, 1)),
]


def draw(design, seed):
    return draw_phantom(design, generator(seed, 0, "test"))


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("seed", range(5))
def test_a_phantom_has_air_around_a_body_with_both_structures(design, seed):
    phantom = draw(design, seed)
    image, label = phantom.image_C_zyx, phantom.label_zyx
    assert image.shape == (design.channels, *label.shape)
    assert (image.dtype, label.dtype) == (np.int16, np.uint8)
    n_organ, n_lesion = (label == ORGAN).sum(), (label == LESION).sum()
    assert n_organ > 2 * n_lesion > 0
    assert set(np.unique(label)) == {0, ORGAN, LESION}
    body = (image != 0).any(0)
    assert 0.15 < body.mean() < 0.7
    assert not (label[~body]).any()
    assert np.array_equal((image != 0).all(0), body)
    for axis in np.flatnonzero(np.array(label.shape) > 1):
        occupied = body.any(tuple(other for other in range(3) if other != axis))
        assert occupied.sum() < len(occupied)
    assert np.array_equal(binary_fill_holes(body) & ~body, np.zeros_like(body))


@pytest.mark.parametrize("design", DESIGNS)
def test_structures_differ_from_what_surrounds_them_but_not_by_a_threshold(design):
    overlaps = []
    for seed in range(5):
        phantom = draw(design, seed)
        image, label = phantom.image_C_zyx[0].astype(float), phantom.label_zyx
        tissue, organ, lesion = image[(label == 0) & (image != 0)], image[label == ORGAN], image[label == LESION]
        assert tissue.mean() < organ.mean() < lesion.mean()
        overlaps.append((tissue > np.percentile(organ, 20)).mean())
    assert np.mean(overlaps) > 0.02


@pytest.mark.parametrize("design", DESIGNS)
def test_same_generator_same_phantom_another_seed_another(design):
    first, again, other = draw(design, 0), draw(design, 0), draw(design, 1)
    assert np.array_equal(first.image_C_zyx, again.image_C_zyx)
    assert np.array_equal(first.label_zyx, again.label_zyx)
    assert first.spacing_mm == again.spacing_mm
    assert first.label_zyx.shape != other.label_zyx.shape or not np.array_equal(first.label_zyx, other.label_zyx)


def test_spacing_varies_within_its_bounds_and_the_field_of_view_stays():
    design = DESIGNS[0]
    spacings, extents = [], []
    for seed in range(20):
        phantom = draw(design, seed)
        spacings.append(phantom.spacing_mm)
        extents.append(np.array(phantom.spacing_mm) * phantom.label_zyx.shape)
    ratio = np.array(spacings) / design.spacing_mm
    assert ratio.min() >= 0.849
    assert ratio.max() <= 1.151
    assert len(set(spacings)) == 20
    assert np.allclose(extents, np.array(design.shape) * design.spacing_mm, rtol=0.06)


def test_without_variation_all_images_have_the_grid_that_was_asked_for():
    phantom = draw(DESIGNS[3], 0)
    assert phantom.spacing_mm == (1.0, 1.0, 2.0)
    assert phantom.label_zyx.shape == (16, 16, 16)


def test_lesions_lie_in_varied_places():
    centres = [np.argwhere(draw(DESIGNS[2], seed).label_zyx == LESION).mean(0) for seed in range(10)]
    assert np.std(centres, axis=0).min() > 0.7


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (4, 40, 40)},
        {"shape": (40, 40, 3)},
        {"spacing_mm": (1, 0, 1)},
        {"spacing_mm": (1, float("nan"), 1)},
        {"spacing_variation": 0.9},
        {"modality": "US"},
        {"channels": 3},
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(wrong):
    with pytest.raises(DatasetError):
        PhantomDesign(**wrong)
