from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from nnunet_al.scoring.augmentation import AugmentationSampler, bilinear, inside, nearest_inside, rotated_positions
from nnunet_al.scoring.dropout import insert_dropout
from nnunet_al.scoring.maps import bald
from nnunet_al.scoring.posterior import deterministic_probabilities

from .networks import images, unet
from .sampling import samples_of_each_alone


class Intensities(nn.Module):
    """A network whose logits are its input, voxel by voxel."""

    def forward(self, data_B_C_xyz: torch.Tensor) -> torch.Tensor:
        return data_B_C_xyz


class Recorder(nn.Module):
    """A network that keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, data_B_C_xyz: torch.Tensor) -> torch.Tensor:
        self.seen.append(data_B_C_xyz.clone())
        return data_B_C_xyz


class OneAngle:
    """Stands in for a generator whose uniform draws all are one number."""

    def __init__(self, angle_deg: float) -> None:
        self._angle_deg, self._rng = angle_deg, np.random.default_rng(0)

    def uniform(self, low: float, high: float, size: int) -> np.ndarray:
        assert low <= self._angle_deg <= high
        return np.full(size, self._angle_deg)

    def standard_normal(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        return self._rng.standard_normal(shape, dtype=dtype)


def _sampler(
    network: nn.Module, dims: int = 2, exclusive: bool = True, seed: int = 0, **options: float
) -> AugmentationSampler:
    spacing_mm = (3.0, 1.5, 1.0)[-dims:]
    return AugmentationSampler(network, exclusive, 4, np.random.default_rng(seed), spacing_mm, **options)


def _turn(values_yx: np.ndarray, angle_deg: float, steps_mm: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    plane = values_yx.shape
    turn = bilinear(rotated_positions(plane, steps_mm, angle_deg), plane)
    return turn(torch.from_numpy(np.asarray(values_yx, dtype=np.float64))).numpy()


def _smooth(plane: tuple[int, int]) -> np.ndarray:
    y, x = np.indices(plane)
    return np.sin(y / 9.0) + np.cos(x / 7.0)


# geometry


@pytest.mark.parametrize("plane", [(20, 20), (21, 15), (7, 32)])
@pytest.mark.parametrize("angle_deg", [-10.0, 3.7, 45.0, 90.0])
def test_rotation_is_scipys(plane: tuple[int, int], angle_deg: float) -> None:
    values = np.random.default_rng(0).random(plane)
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    matrix, centre = np.array([[cos, -sin], [sin, cos]]), (np.array(plane) - 1) / 2
    # a rim of zeros makes scipy's border the bilinear one
    padded = np.pad(values, 1)
    offset = centre + 1 - matrix @ centre
    theirs = ndimage.affine_transform(padded, matrix, offset=offset, output_shape=plane, order=1, mode="constant")
    np.testing.assert_allclose(_turn(values, angle_deg), theirs, atol=1e-9)


@pytest.mark.parametrize("angle_deg", [4.0, -10.0, 30.0])
def test_what_is_in_view_is_what_scipy_rotates_into_view(angle_deg: float) -> None:
    plane = (24, 24)
    ours = inside(rotated_positions(plane, (1.0, 1.0), -angle_deg), plane)  # scipy reads from the opposite direction
    # scipy turns a plane of ones, and fills what comes from outside with nan
    theirs = ndimage.rotate(np.ones(plane), angle_deg, reshape=False, order=1, mode="constant", cval=np.nan)
    assert np.array_equal(ours, np.isfinite(theirs))
    assert not ours[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert ours[12, 12]
    assert 0.5 < ours.mean() < 1


def test_out_of_view_by_hand() -> None:
    # 45 degrees take the corners of 3 x 3, 1.41 voxels from the centre, to a place outside
    view = inside(rotated_positions((3, 3), (1.0, 1.0), 45.0), (3, 3))
    assert view.tolist() == [[False, True, False], [True, True, True], [False, True, False]]
    # 90 degrees fit a square, but not a rectangle of the same voxels: its long axis leaves the short one
    assert inside(rotated_positions((3, 3), (1.0, 1.0), 90.0), (3, 3)).all()
    assert inside(rotated_positions((1, 3), (1.0, 1.0), 90.0), (1, 3)).tolist() == [[False, True, False]]
    assert inside(rotated_positions((3, 5), (2.0, 1.0), 90.0), (3, 5)).all()  # 4 mm by 4 mm
    positions = nearest_inside(rotated_positions((1, 3), (1.0, 1.0), 90.0), (1, 3))
    np.testing.assert_allclose(positions, [[[0, 0, 0]], [[1, 1, 1]]], atol=1e-12)


def test_nothing_turned_is_nothing_changed() -> None:
    for plane in [(16, 16), (7, 12)]:
        values = np.random.default_rng(0).random(plane)
        assert np.array_equal(_turn(values, 0.0, (0.3, 1.7)), values)


def test_there_and_back_is_close() -> None:
    values, steps_mm = _smooth((48, 40)), (0.8, 1.1)
    for angle_deg in (-10.0, 6.0, 10.0):
        turned = _turn(values, angle_deg, steps_mm)
        back = _turn(turned, -angle_deg, steps_mm)
        inner = (slice(10, -10), slice(10, -10))
        assert np.abs(back - values)[inner].max() < 0.01
        assert np.abs(turned - values)[inner].max() > 0.1


def test_a_physical_disc_stays_a_disc() -> None:
    plane, steps_mm = (31, 61), (2.0, 1.0)
    y, x = np.indices(plane)
    radius_mm = np.hypot((y - 15) * steps_mm[0], (x - 30) * steps_mm[1])
    disc = np.clip((20.0 - radius_mm) / 8.0, 0.0, 1.0)  # a soft rim, which bilinear interpolation can follow
    turned = _turn(disc, 40.0, steps_mm)
    assert np.abs(turned - disc).max() < 0.12
    assert np.abs(_turn(disc, 40.0) - disc).max() > 0.5  # as if voxels were squares


# sampler


@pytest.mark.parametrize("dims", [2, 3])
def test_without_angle_and_noise_all_samples_are_the_deterministic_one(dims: int) -> None:
    network, data = unet(dims=dims), images(3, dims)
    samples = _sampler(network, dims, noise_variance=0.0, max_angle_deg=0.0)(data)
    assert torch.equal(
        samples.probs_T_B_C_xyz, deterministic_probabilities(network, data).expand(4, *[-1] * (dims + 2))
    )
    assert samples.visible_B_xyz is not None
    assert samples.visible_B_xyz.shape == (3, *data.shape[2:])
    assert samples.visible_B_xyz.dtype == torch.bool
    assert samples.visible_B_xyz.all()
    assert torch.count_nonzero(bald(samples.probs_T_B_C_xyz)) == 0


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_samples_are_probabilities(dims: int, exclusive: bool) -> None:
    network = unet(dims=dims)
    samples = _sampler(network, dims, exclusive)(images(2, dims))
    probs, visible = samples.probs_T_B_C_xyz, samples.visible_B_xyz
    assert visible is not None
    assert probs.shape == (4, 2, 3, *visible.shape[1:])
    assert probs.dtype == torch.float32
    assert ((probs >= 0) & (probs <= 1 + 1e-6)).all()
    if exclusive:
        torch.testing.assert_close(probs.sum(2), torch.ones_like(probs[:, :, 0]))
    assert 0.3 < visible.float().mean() < 1
    assert bald(probs, exclusive).max() > 1e-4
    assert network.training


@pytest.mark.parametrize("dims", [2, 3])
def test_neither_company_nor_earlier_calls_change_a_sample(dims: int) -> None:
    network, data = unet(dims=dims), images(5, dims)
    whole = samples_of_each_alone(_sampler(network, dims), _sampler(network, dims), data)
    other = _sampler(network, dims, seed=1)(data[:4])
    assert not torch.equal(other.probs_T_B_C_xyz, whole[:, :4])


def test_transforms_are_drawn_once() -> None:
    rng = np.random.default_rng(0)
    sampler = AugmentationSampler(Intensities(), True, 2, rng, (1.0, 1.0))
    untouched = rng.bit_generator.state
    sampler(images(1))
    drawn = rng.bit_generator.state
    assert drawn != untouched
    sampler(images(3))
    assert rng.bit_generator.state == drawn


def test_samples_turn_back_to_where_they_came_from() -> None:
    values = torch.from_numpy(_smooth((40, 36))).float()
    data = torch.stack([values, -values]).unsqueeze(0)
    sampler = AugmentationSampler(Intensities(), False, 6, np.random.default_rng(1), (1.0, 1.3), noise_variance=0.0)
    samples = sampler(data)
    error = (samples.probs_T_B_C_xyz - torch.sigmoid(data)).abs().amax((0, 2))
    assert samples.visible_B_xyz is not None
    seen = torch.from_numpy(ndimage.binary_erosion(samples.visible_B_xyz[0].numpy(), iterations=2))
    assert seen.float().mean() > 0.6
    assert error[0][seen].max() < 0.01


def test_visible_is_in_view_in_all_samples() -> None:
    sampler = AugmentationSampler(Intensities(), False, 5, np.random.default_rng(3), (1.0, 1.0))
    visible = sampler(torch.zeros(2, 1, 20, 20)).visible_B_xyz
    assert visible is not None
    angles = np.random.default_rng(3).uniform(-10, 10, 5)
    expected = np.logical_and.reduce(
        [inside(rotated_positions((20, 20), (1.0, 1.0), angle), (20, 20)) for angle in angles]
    )
    assert np.array_equal(visible[0].numpy(), expected)
    assert torch.equal(visible[0], visible[1])
    assert not visible[0, 0, 0]


def test_one_rotation_hides_the_corners_that_it_turns_away() -> None:
    values = torch.from_numpy(_smooth((24, 24))).float().expand(1, 1, 24, 24)
    sampler = AugmentationSampler(Intensities(), False, 1, OneAngle(10.0), (1.0, 1.0), noise_variance=0.0)  # type: ignore[arg-type]
    samples = sampler(values)
    assert samples.visible_B_xyz is not None
    assert np.array_equal(samples.visible_B_xyz[0], inside(rotated_positions((24, 24), (1.0, 1.0), 10.0), (24, 24)))
    # out of view means: its prediction came from another place, so it is wrong where the image changes
    error = (samples.probs_T_B_C_xyz[0, :, 0] - torch.sigmoid(values[:, 0])).abs()
    interior = torch.from_numpy(ndimage.binary_erosion(samples.visible_B_xyz[0].numpy()))[None]
    assert error[interior].max() < 0.01
    assert error[~samples.visible_B_xyz].max() > 0.02


def test_in_3d_all_slices_turn_alike() -> None:
    plane = torch.randn(2, 14, 12, generator=torch.Generator().manual_seed(0))
    data = plane.unsqueeze(1).expand(2, 5, 14, 12).unsqueeze(0)
    solid = AugmentationSampler(Intensities(), False, 3, np.random.default_rng(2), (7.0, 1.0, 1.5), noise_variance=0.0)
    flat = AugmentationSampler(Intensities(), False, 3, np.random.default_rng(2), (1.0, 1.5), noise_variance=0.0)
    # angles are drawn before any noise, so both turn by the same ones
    ours, theirs = solid(data), flat(plane.unsqueeze(0))
    for z in range(5):
        torch.testing.assert_close(ours.probs_T_B_C_xyz[:, :, :, z], theirs.probs_T_B_C_xyz)
    assert ours.visible_B_xyz is not None
    assert theirs.visible_B_xyz is not None
    assert torch.equal(ours.visible_B_xyz, theirs.visible_B_xyz.unsqueeze(1).expand(1, 5, 14, 12))


def test_noise_has_the_variance_that_was_asked_for_and_is_shared_by_all_windows() -> None:
    recorder = Recorder()
    AugmentationSampler(recorder, True, 3, np.random.default_rng(0), (1.0, 1.0), max_angle_deg=0.0)(
        torch.zeros(2, 2, 64, 64)
    )
    fields = torch.stack(recorder.seen)
    assert fields.std().item() == pytest.approx(0.1, rel=0.03)
    assert fields.mean().item() == pytest.approx(0.0, abs=0.005)
    assert torch.equal(fields[:, 0], fields[:, 1])
    flat = fields[:, 0].flatten(1)
    correlation = torch.corrcoef(torch.cat([flat[:, :4096], flat[:, 4096:]]))  # of passes and of channels
    assert (correlation - torch.eye(6)).abs().max() < 0.08


def test_the_image_as_it_is_may_be_the_first_sample() -> None:
    network, data = unet(), images(3)
    sampler = AugmentationSampler(network, True, 4, np.random.default_rng(5), (1.5, 1.0), plain=True)
    probs = sampler(data).probs_T_B_C_xyz
    assert torch.equal(probs[:1], deterministic_probabilities(network, data))
    assert all(not torch.equal(probs[0], other) for other in probs[1:])
    # the others are those of a sampler of one pass less
    fewer = AugmentationSampler(network, True, 3, np.random.default_rng(5), (1.5, 1.0))(data)
    assert torch.equal(probs[1:], fewer.probs_T_B_C_xyz)


def test_noise_may_have_the_unit_of_each_channel_of_each_image() -> None:
    recorder, range_B_C = Recorder(), torch.tensor([[1.0, 100.0], [0.0, 7.0]])
    sampler = AugmentationSampler(recorder, True, 2, np.random.default_rng(0), (1.0, 1.0), 1e-4, 0.0, True)
    data = torch.randn(2, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    sampler(data, range_B_C)
    plain, noisy = recorder.seen
    assert torch.equal(plain, data)
    deviation_B_C = (noisy - data).flatten(2).std(2)
    torch.testing.assert_close(deviation_B_C, 0.01 * range_B_C, rtol=0.03, atol=0)
    sampler(data)
    torch.testing.assert_close(
        (recorder.seen[3] - data) * range_B_C.view(2, 2, 1, 1), noisy - data, rtol=1e-3, atol=1e-5
    )


def test_noise_is_added_after_the_rotation_and_zeros_come_from_outside() -> None:
    recorder = Recorder()
    quiet, noisy = (
        AugmentationSampler(recorder, True, 1, OneAngle(10.0), (1.0, 1.0), noise_variance=variance)  # type: ignore[arg-type]
        for variance in (0.0, 0.04)
    )
    data = torch.full((1, 2, 32, 32), 5.0)
    quiet(data)
    noisy(data)
    plain, noise = recorder.seen[0], recorder.seen[1] - recorder.seen[0]
    assert plain[0, 0, 0, 0] == 0.0
    assert plain[0, 0, 16, 16] == 5.0
    assert noise.std().item() == pytest.approx(0.2, rel=0.06)  # interpolated noise would be weaker
    assert noise[0, 0, 0, 0] != 0.0


def test_dropout_is_off() -> None:
    network, data = unet(), images(2)
    plain = _sampler(network)(data).probs_T_B_C_xyz
    insert_dropout(network, 0.5)
    network.train()
    assert torch.equal(_sampler(network)(data).probs_T_B_C_xyz, plain)
    assert network.training


def test_the_input_stays_as_it_is() -> None:
    data = images(2)
    before = data.clone()
    _sampler(unet())(data)
    assert torch.equal(data, before)


def test_turned_back_probabilities_are_probabilities():
    # float32 weights of four places may add up to more than 1; an entropy of such a value would be negative
    certain = torch.full((3, 2, 16, 16), -50.0)
    certain[:, 1] = 50.0
    samples = _sampler(Intensities(), noise_variance=0.0)(certain).probs_T_B_C_xyz
    assert samples.min() >= 0
    assert samples.max() <= 1
    assert _sampler(Intensities())(torch.randn(8, 2, 16, 16) * 30).probs_T_B_C_xyz.max() <= 1
