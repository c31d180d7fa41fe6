from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from nnunet_al.errors import ModelError
from nnunet_al.scoring.dropout import draw_masks, dropout_layers, insert_dropout
from nnunet_al.scoring.maps import bald
from nnunet_al.scoring.posterior import deterministic_probabilities, sampled_probabilities
from nnunet_al.scoring.samplers import DeterministicSampler, DropoutSampler, EnsembleSampler, Sampler, Samples

from .networks import images, unet
from .sampling import samples_of_each_alone


def _with_dropout(seed: int = 0, of: str = "channels") -> torch.nn.Module:
    network = unet(seed=seed)
    insert_dropout(network, 0.3, of=of)
    return network


def _dropout(seed: int = 5, exclusive: bool = True, of: str = "channels") -> DropoutSampler:
    return DropoutSampler(_with_dropout(of=of), exclusive, 4, np.random.default_rng(seed))


SAMPLERS: dict[str, tuple[Callable[[bool], Sampler], int]] = {
    "deterministic": (lambda exclusive: DeterministicSampler(unet(), exclusive), 1),
    "dropout": (lambda exclusive: _dropout(exclusive=exclusive), 4),
    "dropout of elements": (lambda exclusive: _dropout(exclusive=exclusive, of="elements"), 4),
    "ensemble": (lambda exclusive: EnsembleSampler([unet(seed=seed) for seed in range(3)], exclusive), 3),
}


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("name", list(SAMPLERS))
def test_samples_are_probabilities(name: str, exclusive: bool) -> None:
    make, passes = SAMPLERS[name]
    samples = make(exclusive)(images(2))
    probs = samples.probs_T_B_C_xyz
    assert probs.shape == (passes, 2, 3, 16, 16)
    assert probs.dtype == torch.float32
    assert ((probs >= 0) & (probs <= 1)).all()
    assert torch.allclose(probs.sum(2), torch.tensor(1.0)) == exclusive
    assert samples.visible_B_xyz is None
    assert samples.predicted_loss_B is None
    assert (bald(probs, exclusive).max() > 1e-4) == (passes > 1)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_neither_company_nor_earlier_calls_change_a_sample(name: str) -> None:
    make, _ = SAMPLERS[name]
    samples_of_each_alone(make(True), make(True), images(5))


def test_each_is_built_on_its_function() -> None:
    data, network = images(2), _with_dropout()
    assert torch.equal(
        DeterministicSampler(network, True)(data).probs_T_B_C_xyz, deterministic_probabilities(network, data)
    )
    masks = draw_masks(network, data[:1], 4, np.random.default_rng(5))
    assert torch.equal(_dropout()(data).probs_T_B_C_xyz, sampled_probabilities(network, data, masks))
    assert not torch.equal(_dropout(seed=6)(data).probs_T_B_C_xyz, _dropout()(data).probs_T_B_C_xyz)


def test_masks_are_drawn_once() -> None:
    rng = np.random.default_rng(0)
    sampler = DropoutSampler(_with_dropout(), True, 2, rng)
    untouched = rng.bit_generator.state
    first = sampler(images(1))
    drawn = rng.bit_generator.state
    assert drawn != untouched
    second = sampler(images(1))
    assert rng.bit_generator.state == drawn
    assert torch.equal(first.probs_T_B_C_xyz, second.probs_T_B_C_xyz)


def test_a_network_without_dropout_is_refused() -> None:
    with pytest.raises(ModelError, match="without dropout"):
        DropoutSampler(unet(), True, 3, np.random.default_rng(0))(images(1))


def test_the_members_of_an_ensemble_keep_their_order_and_no_dropout() -> None:
    members, data = [_with_dropout(seed) for seed in (3, 1, 2)], images(2)
    probs = EnsembleSampler(members, True)(data).probs_T_B_C_xyz
    for index, member in enumerate(members):
        assert torch.equal(probs[index], deterministic_probabilities(member, data)[0])
        assert member.training
        assert all(layer.mask_C_xyz is None for layer in dropout_layers(member))
    one = EnsembleSampler([members[0]] * 3, True)(data).probs_T_B_C_xyz
    assert torch.count_nonzero(bald(one)) == 0


def test_samples_hold_only_probabilities_unless_told() -> None:
    probs, visible, loss = torch.zeros(1, 2, 2, 3, 3), torch.ones(2, 3, 3, dtype=torch.bool), torch.zeros(2)
    assert Samples(probs).visible_B_xyz is None
    samples = Samples(probs, visible, loss)
    assert samples.visible_B_xyz is visible
    assert samples.predicted_loss_B is loss
