from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_al.errors import ModelError
from nnunet_al.scoring.dropout import draw_masks, dropout_layers, insert_dropout
from nnunet_al.scoring.maps import bald
from nnunet_al.scoring.posterior import (
    deterministic_probabilities,
    head_probabilities,
    in_microbatches,
    micro_batch_size,
    pad_batch,
    sampled_probabilities,
)

from .networks import images, unet


def _sampler(kind: str = "plain", dims: int = 2, deep: bool = False, passes: int = 4) -> tuple:
    network = unet(kind, dims, deep=deep)
    insert_dropout(network, 0.3)
    return network, draw_masks(network, images(1, dims), passes, np.random.default_rng(0))


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("kind,dims", [("plain", 2), ("residual", 3)])
def test_samples_are_probabilities(kind: str, dims: int, exclusive: bool) -> None:
    network, masks = _sampler(kind, dims)
    data = images(2, dims)
    probs = sampled_probabilities(network, data, masks, exclusive)
    single = deterministic_probabilities(network, data, exclusive)
    assert probs.shape == (4, 2, 3, *data.shape[2:])
    assert single.shape == (1, 2, 3, *data.shape[2:])
    for values in (probs, single):
        assert values.dtype == torch.float32
        assert ((values >= 0) & (values <= 1)).all()
    if exclusive:
        torch.testing.assert_close(probs.sum(2), torch.ones_like(probs[:, :, 0]))
    assert bald(probs, exclusive).max() > 1e-4
    assert all(layer.mask_C_xyz is None for layer in dropout_layers(network))
    assert network.training


@pytest.mark.parametrize("size", [1.0, 30.0, 200.0])
def test_probabilities_and_their_gradients_are_torchs(size: float) -> None:
    logits = size * torch.randn(5, 3, 7, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for exclusive, theirs in (True, lambda some: torch.softmax(some, 1)), (False, torch.sigmoid):
        values, expected = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        found = head_probabilities(values, exclusive)
        torch.testing.assert_close(found, theirs(expected), rtol=1e-12, atol=1e-15)
        weights = torch.arange(found.numel()).view(found.shape) / found.numel()
        (found * weights).sum().backward()
        (theirs(expected) * weights).sum().backward()
        torch.testing.assert_close(values.grad, expected.grad, rtol=1e-9, atol=1e-12)
    short = logits.float()
    torch.testing.assert_close(head_probabilities(short, True), torch.softmax(short, 1), rtol=2e-6, atol=1e-37)
    torch.testing.assert_close(head_probabilities(short, False), torch.sigmoid(short), rtol=3e-6, atol=1e-37)


def test_deterministic_is_the_stock_network() -> None:
    network, _ = _sampler()
    stock = unet().eval()
    stock.load_state_dict(network.state_dict())
    with torch.no_grad():
        expected = head_probabilities(stock(images(2)), True)
    assert torch.equal(deterministic_probabilities(network, images(2))[0], expected)


def test_deep_supervision_gives_the_full_resolution() -> None:
    deep, masks = _sampler(deep=True)
    plain, _ = _sampler()
    plain.load_state_dict(deep.state_dict())
    assert torch.equal(sampled_probabilities(deep, images(2), masks), sampled_probabilities(plain, images(2), masks))


def test_same_masks_give_the_same_samples_whatever_the_global_seed() -> None:
    network, masks = _sampler()
    torch.manual_seed(1)
    first = sampled_probabilities(network, images(2), masks)
    torch.manual_seed(2)
    assert torch.equal(first, sampled_probabilities(network, images(2), masks))


def test_samples_do_not_depend_on_the_company_in_the_batch() -> None:
    network, masks = _sampler()
    data, size = images(5), 4

    def sample(batch: torch.Tensor) -> torch.Tensor:
        return sampled_probabilities(network, batch, masks)

    whole = in_microbatches(sample, size, data, batch_axis=1)
    order = torch.tensor([3, 0, 4, 2, 1])
    shuffled = in_microbatches(sample, size, data[order], batch_axis=1)
    alone = torch.cat([in_microbatches(sample, size, data[b : b + 1], batch_axis=1) for b in range(5)], dim=1)
    assert torch.equal(whole[:, order], shuffled)
    assert torch.equal(whole, alone)


def test_a_network_without_dropout_is_refused() -> None:
    for masks in ([], [torch.ones(2, 4, dtype=torch.bool)]):
        with pytest.raises(ModelError, match="without dropout"):
            sampled_probabilities(unet(), images(1), masks)


@pytest.mark.parametrize(
    "patch,expected",
    [
        ((64, 64), 64),
        ((512, 512), 1),
        ((1, 56, 40), 64),
        ((32, 32, 32), 8),
        ((128,) * 3, 1),
        ((100, 100), 16),
        ((65, 64), 32),
    ],
)
def test_micro_batch_size(patch: tuple[int, ...], expected: int) -> None:
    assert micro_batch_size(patch) == expected


@pytest.mark.parametrize("total", [1, 3, 4, 9])
def test_microbatches_have_one_size_and_their_padding_is_cut(total: int) -> None:
    sizes = []

    def double(batch: torch.Tensor, flags: torch.Tensor) -> torch.Tensor:
        sizes.append((len(batch), len(flags)))
        return torch.where(flags[:, None], 2 * batch, -1.0)

    data = torch.arange(total * 2.0).reshape(total, 2)
    out = in_microbatches(double, 4, data, torch.ones(total, dtype=torch.bool))
    assert torch.equal(out, 2 * data)
    assert sizes == [(4, 4)] * -(-total // 4)


def test_padding_is_zero() -> None:
    assert pad_batch(torch.ones(1, 2), 3).tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    full = torch.ones(3, 2)
    assert pad_batch(full, 3) is full
