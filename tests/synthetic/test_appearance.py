from __future__ import annotations

import numpy as np
import pytest

from nnunet_al.synthetic import appearance
from nnunet_al.synthetic.appearance import head_mask, paint, scan
from nnunet_al.synthetic.template import Grid
from nnunet_al.synthetic.tissues import TISSUE_MEANS, intensities, structure_name, tissue_of

from .tiny_head import SPACING, tiny_head


def test_air_is_background_outside_the_head_only():
    labels = np.zeros((3, 9, 9), dtype=np.int16)
    labels[:, 2:7, 2:7] = 511
    labels[:, 4, 4] = 0  # a sinus
    labels[2, 4, 4:] = 0  # open to the side in this slice
    head = head_mask(labels)
    assert head[0, 4, 4]
    assert head[1, 4, 4]
    assert not head[2, 4, 4]
    assert head.sum() == 25 + 25 + 22


def test_tissues_of_freesurfer_s_numbers():
    assert [tissue_of(label) for label in (2, 41, 251)] == ["white matter"] * 3
    assert [tissue_of(label) for label in (3, 42, 1012, 2035)] == ["cortex"] * 4
    assert [tissue_of(label) for label in (4, 43, 14, 24)] == ["fluid"] * 4
    assert tissue_of(11) == tissue_of(50) == "caudate"
    assert tissue_of(515) == "bone"
    assert tissue_of(99) == "other"
    assert [structure_name(label) for label in (11, 58, 14, 999)] == [
        "left_caudate",
        "right_accumbens",
        "third_ventricle",
        "label_999",
    ]
    # a T1-weighted image: fluid is darker than grey, grey darker than white matter
    assert TISSUE_MEANS["fluid"] < TISSUE_MEANS["cortex"] < TISSUE_MEANS["caudate"] < TISSUE_MEANS["white matter"]


def test_labels_of_one_tissue_look_alike_and_others_do_not_change_them():
    means = intensities(np.array([2, 3, 41, 42]), 0.04, np.random.default_rng(0))
    assert means[2] == means[41]
    assert means[3] == means[42] != means[2]
    more = intensities(np.array([2, 3, 4, 11, 507]), 0.04, np.random.default_rng(0))
    assert more[2] == means[2]
    assert more[3] == means[3]
    many = [intensities(np.array([2]), 0.04, np.random.default_rng(seed))[2] for seed in range(300)]
    assert np.mean(many) == pytest.approx(700, rel=0.01)
    assert np.std(many) == pytest.approx(28, rel=0.15)


def test_painting_blurs_boundaries_only(monkeypatch):
    monkeypatch.setattr(appearance, "TISSUE_SPREAD", 0.0)
    labels = np.full((5, 5, 40), 2, dtype=np.int16)
    labels[..., 20:] = 4
    painted = paint(labels, labels > 0, (1.0, 1.0, 1.0), (1.0, 1.0, 2.0), np.random.default_rng(0))
    assert np.allclose(painted[..., :14], 700, atol=0.01)
    assert np.allclose(painted[..., 26:], 170, atol=0.01)
    assert (np.diff(painted[2, 2, 17:23]) < 0).all()
    # half a voxel, 1 mm, as standard deviation along x: two nodes on, that of the normal distribution's tail at 1.5 mm
    assert (painted[2, 2, 18] - 170) / 530 == pytest.approx(0.93, abs=0.02)


def test_zero_is_air_and_nothing_else():
    head = tiny_head()
    mask = head_mask(head.labels_zyx)
    grid = Grid(head.labels_zyx.shape, SPACING, (0.0, 0.0, 0.0))
    clean = paint(head.labels_zyx, mask, SPACING, SPACING, np.random.default_rng(0))
    image = scan(clean, mask, grid, np.random.default_rng(1))
    assert image.dtype == np.int16
    assert np.array_equal(image == 0, ~mask)
    assert image.min() == 0
    white, fluid = image[head.labels_zyx == 2], image[head.labels_zyx == 4]
    assert white.mean() > 2 * fluid.mean()


def test_noise_is_rician(monkeypatch):
    """In nothing its mean is that of Rayleigh's distribution, sqrt(pi / 2); in much signal it is normal."""
    monkeypatch.setattr(appearance, "BIAS_SPREAD", 0.0)
    grid = Grid((40, 40, 40), (1.0,) * 3, (0.0,) * 3)
    everywhere = np.ones(grid.shape, dtype=bool)
    nothing = scan(np.zeros(grid.shape, np.float32), everywhere, grid, np.random.default_rng(0)).astype(float)
    assert nothing.mean() == pytest.approx(appearance.NOISE * np.sqrt(np.pi / 2), rel=0.02)
    much = scan(np.full(grid.shape, 700, np.float32), everywhere, grid, np.random.default_rng(0)).astype(float)
    assert much.std() == pytest.approx(appearance.NOISE, rel=0.03)


def test_the_bias_field_is_smooth_and_the_same_at_any_resolution(monkeypatch):
    monkeypatch.setattr(appearance, "NOISE", 0.0)
    fine, coarse = Grid((41, 41, 41), (2.0,) * 3, (-40.0,) * 3), Grid((21, 21, 21), (4.0,) * 3, (-40.0,) * 3)
    images = [
        scan(np.full(grid.shape, 10000, np.float32), np.ones(grid.shape, bool), grid, np.random.default_rng(3))
        for grid in (fine, coarse)
    ]
    assert np.abs(images[0][::2, ::2, ::2].astype(int) - images[1]).max() <= 1
    assert images[0].std() > 100
    assert np.abs(np.diff(images[0].astype(int), axis=0)).max() < 300
