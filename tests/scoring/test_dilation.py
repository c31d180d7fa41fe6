from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from nnunet_al.scoring.dilation import dilate


def _seeds(shape: tuple[int, ...], share: float = 0.02, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((3, *shape)) < share)


@pytest.mark.parametrize("radius_mm", [0.4, 1.0, 3.0, 7.3, 100.0])
@pytest.mark.parametrize(
    "spacing_mm,shape",
    [
        ((1.0, 1.0), (30, 20)),
        ((0.7, 1.9), (17, 30)),
        ((1.0, 1.0, 1.0), (12, 10, 9)),
        ((5.0, 0.8, 1.3), (6, 20, 16)),
        ((0.3, 2.2, 0.7), (24, 7, 1)),
    ],
)
def test_it_is_scipys_distance(spacing_mm: tuple[float, ...], shape: tuple[int, ...], radius_mm: float) -> None:
    mask = _seeds(shape)
    ours = dilate(mask, radius_mm, spacing_mm)
    for b in range(3):
        distance = distance_transform_edt(~mask[b].numpy(), sampling=spacing_mm)
        clear = np.abs(distance - radius_mm) > 1e-3  # where rounding decides is another test's matter
        assert np.array_equal(ours[b].numpy()[clear], (distance <= radius_mm)[clear])
        assert clear.mean() > 0.3


def test_what_lies_at_the_very_distance_is_in() -> None:
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, 4, 4] = True
    assert dilate(mask, 3.0, (1.0, 1.0)).sum() == 29  # lattice points of the disc x² + y² <= 9
    assert dilate(mask, 2.99, (1.0, 1.0)).sum() == 25
    assert torch.equal(dilate(mask, 0.3, (0.1, 0.1)), dilate(mask, 3.0, (1.0, 1.0)))  # 3 · 0.1 > 0.3 in floats
    assert torch.equal(dilate(mask, 0.0, (1.0, 1.0)), mask)


def test_a_coarse_axis_is_reached_only_where_the_next_slice_is_near() -> None:
    mask = torch.zeros(1, 3, 5, 5, dtype=torch.bool)
    mask[0, 1, 2, 2] = True
    near = dilate(mask, 2.0, (2.5, 1.0, 1.0))
    assert near[0, 1].sum() == 13
    assert not near[0, [0, 2]].any()
    assert dilate(mask, 2.5, (2.5, 1.0, 1.0))[0, 0].sum() == 1


def test_an_empty_mask_stays_empty_and_windows_are_apart() -> None:
    mask = torch.zeros(2, 6, 6, dtype=torch.bool)
    mask[1, 0, 0] = True
    near = dilate(mask, 50.0, (1.0, 1.0))
    assert not near[0].any()
    assert near[1].all()
