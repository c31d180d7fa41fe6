"""Sharing what skips contribute halves a convolution's work and changes its result by rounding only."""

import numpy as np
import pytest
import torch

from nnunet_al.scoring.dropout import draw_masks, evaluating, insert_dropout, sub_network
from nnunet_al.scoring.posterior import sampled_probabilities
from nnunet_al.scoring.skips import shared_skips

from .networks import images, unet


@pytest.mark.parametrize("kind", ["plain", "residual"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("where", ["decoder", "last", "all"])
@pytest.mark.parametrize("of", ["channels", "elements"])
@pytest.mark.parametrize("deep", [False, True])
def test_samples_are_those_of_separate_passes(kind, dims, where, of, deep):
    network, data = unet(kind, dims, deep=deep).double(), images(3, dims, dtype=torch.float64)
    insert_dropout(network, 0.3, where, of)
    masks = draw_masks(network, data[:1], 4, np.random.default_rng(0))
    shared = sampled_probabilities(network, data, masks)
    for t in range(4):
        with sub_network(network, masks, t), evaluating(network), torch.inference_mode():
            output = network(data)
            expected = torch.softmax((output[0] if deep else output).float(), 1)
            torch.testing.assert_close(shared[t], expected, rtol=1e-6, atol=1e-7)


def test_each_part_of_a_convolution_sees_its_own_half():
    network, data = unet().double(), images(2, dtype=torch.float64)
    first = network.decoder.stages[-1].convs[0].conv
    below = first.in_channels // 2
    with evaluating(network), torch.inference_mode():
        whole = network(data)
        first.weight[:, below:] = 0  # the skip says nothing
        without = network(data)
        with shared_skips(network):
            shared = network(data)
    torch.testing.assert_close(shared, without, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(shared, whole)


def test_a_skip_is_convolved_once_and_another_one_anew():
    network = unet()
    insert_dropout(network)
    one, two = images(2, seed=1), images(2, seed=2)
    with evaluating(network), torch.no_grad():
        skips = {"one": network.encoder(one), "two": network.encoder(two)}
        expected = {name: network.decoder(tensors) for name, tensors in skips.items()}
        calls = []
        first = network.decoder.stages[-1].convs[0].conv
        plain = first._conv_forward
        first._conv_forward = lambda x, weight, bias: calls.append(bias is not None) or plain(x, weight, bias)
        with shared_skips(network):
            for name in ("one", "one", "one", "two", "one"):
                torch.testing.assert_close(network.decoder(skips[name]), expected[name], rtol=1e-5, atol=1e-6)
    assert calls.count(True) == 3  # the halves with the bias: the skips'
    assert calls.count(False) == 5
    assert "forward" not in network.decoder.__dict__
    assert "forward" not in first.__dict__


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_what_precedes_the_last_two_stages_is_computed_once(kind):
    network, data = unet(kind), images(2)
    insert_dropout(network, 0.3, "last")
    masks = draw_masks(network, data[:1], 5, np.random.default_rng(0))
    calls: dict[int, int] = {}
    for number, module in enumerate(m for m in network.modules() if isinstance(m, torch.nn.ConvTranspose2d)):
        module.register_forward_hook(lambda *_, number=number: calls.update({number: calls.get(number, 0) + 1}))
    encoder = []
    last = next(m for m in network.encoder.stages[-1].modules() if isinstance(m, torch.nn.Conv2d))
    last.register_forward_hook(lambda *_: encoder.append(1))
    sampled_probabilities(network, data, masks)
    assert len(encoder) == 1
    assert [calls[number] for number in sorted(calls)] == [1] * (len(calls) - 1) + [5]


def test_a_result_is_not_kept_where_an_activation_would_write_into_it():
    network, data = unet(), images(2)
    insert_dropout(network, 0.3, "last")
    for stage in network.decoder.stages:
        for block in stage.convs:
            block.all_modules = torch.nn.Sequential(block.conv, block.nonlin)
            del block.norm
    masks = draw_masks(network, data[:1], 3, np.random.default_rng(0))
    shared = sampled_probabilities(network, data, masks)
    for t in range(3):
        with sub_network(network, masks, t), evaluating(network), torch.inference_mode():
            torch.testing.assert_close(shared[t], torch.softmax(network(data), 1), rtol=1e-4, atol=1e-5)


def test_another_decoder_is_left_alone():
    network = unet()
    network.decoder.__class__ = type("OwnDecoder", (type(network.decoder),), {})
    data = images(2)
    with evaluating(network), torch.inference_mode():
        expected = network(data)
        with shared_skips(network):
            assert torch.equal(network(data), expected)
    with shared_skips(torch.nn.Conv2d(1, 1, 1)):
        pass
