from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from nnunet_al.errors import ModelError
from nnunet_al.scoring.dropout import insert_dropout
from nnunet_al.scoring.features import bottleneck_features, share_by_area

from .networks import SPATIAL, images, unet


def _weights(count: int, dims: int) -> torch.Tensor:
    """1 / |V_r| on a random part of each window."""
    generator = torch.Generator().manual_seed(5)
    mask = (torch.rand(count, *SPATIAL[dims], generator=generator) > 0.3).double()
    return mask / mask.flatten(1).sum(1).reshape(-1, *[1] * dims)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_equal_to_a_plain_forward_pass(kind: str, dims: int) -> None:
    network = unet(kind, dims).double().eval()
    data, weight = images(3, dims, dtype=torch.float64), _weights(3, dims)
    with torch.no_grad():
        output = network.encoder(data)[-1]
    assert output.shape == (3, 8, *(size // 4 for size in SPATIAL[dims]))
    # each voxel takes the feature of the cell of 4 x 4 (x 4) voxels that it lies in
    expected = np.zeros((3, 8))
    for voxel in np.ndindex(*SPATIAL[dims]):
        cell = tuple(index // 4 for index in voxel)
        expected += weight[(..., *voxel)].numpy()[:, None] * output[(..., *cell)].numpy()
    np.testing.assert_allclose(bottleneck_features(network, data, weight).numpy(), expected, atol=1e-12)
    assert np.abs(expected).max() > 0.1
    flat = bottleneck_features(network, data, weight, flatten=True)
    torch.testing.assert_close(flat, output.reshape(3, -1))


def test_a_region_that_fills_the_window_has_the_mean_of_the_map() -> None:
    network, data = unet().double().eval(), images(2, dtype=torch.float64)
    weight = torch.full((2, *SPATIAL[2]), 1 / 256, dtype=torch.float64)
    with torch.no_grad():
        expected = network.encoder(data)[-1].mean((2, 3))
    torch.testing.assert_close(bottleneck_features(network, data, weight), expected)


def test_windows_and_masks_of_a_region_add_up() -> None:
    network, data = unet().double(), images(1, dtype=torch.float64)
    mask = torch.zeros(1, *SPATIAL[2], dtype=torch.float64)
    mask[:, :, :5] = 1.0  # the border lies inside a cell
    whole = bottleneck_features(network, data, torch.ones_like(mask) / 256)
    left, right = (bottleneck_features(network, data, part / 256) for part in (mask, 1 - mask))
    torch.testing.assert_close(left + right, whole)
    assert not torch.allclose(left / left.norm(), whole / whole.norm())


@pytest.mark.parametrize("flatten", [True, False])
def test_samples_do_not_see_each_other(flatten: bool) -> None:
    network, data, weight = unet("residual", 3).double(), images(4, 3, dtype=torch.float64), _weights(4, 3)
    whole = bottleneck_features(network, data, weight, flatten)
    single = [bottleneck_features(network, data[b, None], weight[b, None], flatten)[0] for b in range(4)]
    torch.testing.assert_close(whole, torch.stack(single))


def test_a_window_without_weight_is_zero() -> None:
    weight = _weights(2, 2)
    weight[0] = 0
    features = bottleneck_features(unet(), images(2), weight)
    assert features.dtype == torch.float32
    assert features[0].count_nonzero() == 0
    assert features[1].count_nonzero() > 0


def test_dropout_is_off_the_decoder_rests_and_nothing_is_left_behind() -> None:
    network, data, weight = unet(), images(2), _weights(2, 2)
    expected = bottleneck_features(network, data, weight)
    insert_dropout(network, 0.5, "all")
    network.train()
    decoded: list[bool] = []
    network.decoder.stages[0].register_forward_hook(lambda *_: decoded.append(True))
    again = bottleneck_features(network, data.requires_grad_(), weight)
    assert torch.equal(again, expected)
    assert not again.requires_grad
    assert not decoded
    assert all(module.training for module in network.modules())
    network(data)
    assert decoded


def test_precision_does_not_follow_autocast() -> None:
    network, data, weight = unet(), images(2), _weights(2, 2)
    expected = bottleneck_features(network, data, weight)
    precise = bottleneck_features(network.double(), data.double(), weight)
    torch.testing.assert_close(expected.double(), precise, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(bottleneck_features(network.float(), data, weight), expected)


def test_shares_by_hand() -> None:
    weight = torch.tensor([[[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]])
    # the middle of three voxels belongs to both of two cells by half; rows stay
    assert share_by_area(weight, torch.Size([2, 2])).tolist() == [[[2.0, 5.0], [16.0, 40.0]]]
    # two cells for one voxel: half of it each
    assert share_by_area(weight, torch.Size([1, 6])).tolist() == [[[4.5, 4.5, 9.0, 9.0, 18.0, 18.0]]]


@pytest.mark.parametrize("grid", [(2, 3, 5), (4, 6, 10), (3, 5, 7), (1, 1, 1), (9, 2, 11)])
def test_the_total_weight_stays_and_whole_cells_are_torchs_area_mean(grid: tuple[int, ...]) -> None:
    weight = torch.rand(2, 4, 6, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shared = share_by_area(weight, torch.Size(grid))
    assert shared.shape == (2, *grid)
    torch.testing.assert_close(shared.flatten(1).sum(1), weight.flatten(1).sum(1))
    if all(size % cells == 0 for size, cells in zip((4, 6, 10), grid, strict=True)):
        voxels_per_cell = 240 / np.prod(grid)
        torch.testing.assert_close(
            shared, F.interpolate(weight[:, None], size=grid, mode="area")[:, 0] * voxels_per_cell
        )


class _Elsewhere(nn.Module):
    """Has a stage where nnU-Net's networks have one, but does not run through it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.stages = nn.ModuleList([nn.Conv2d(2, 2, 1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_other_networks_are_refused() -> None:
    empty = _Elsewhere()
    empty.encoder.stages = nn.ModuleList()
    for network in (nn.Sequential(nn.Conv2d(2, 2, 1)), empty, _Elsewhere()):
        with pytest.raises(ModelError, match=r"has no encoder\.stages\[-1\] to take features from"):
            bottleneck_features(network, images(1), torch.ones(1, *SPATIAL[2]))
    assert not any(module._forward_hooks for module in network.modules())
