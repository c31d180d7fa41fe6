"""Sharing what precedes the first dropout changes the time and nothing else."""

import numpy as np
import pytest
import torch

from nnunet_al.scoring.dropout import draw_masks, evaluating, insert_dropout, sub_network
from nnunet_al.scoring.posterior import sampled_probabilities
from nnunet_al.scoring.prefix import shared_prefix

from .networks import images, unet


@pytest.mark.parametrize("kind", ["plain", "residual"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("where", ["decoder", "last", "all"])
@pytest.mark.parametrize("of", ["channels", "elements"])
def test_samples_are_bitwise_those_of_separate_passes(kind, dims, where, of):
    network, data = unet(kind, dims), images(3, dims)
    insert_dropout(network, 0.3, where, of)
    masks = draw_masks(network, data[:1], 4, np.random.default_rng(0))
    with evaluating(network), torch.inference_mode():
        with shared_prefix(network):
            shared = [_pass(network, masks, t, data) for t in range(4)]
        separate = [_pass(network, masks, t, data) for t in range(4)]
    assert not torch.equal(shared[0], shared[1])
    assert all(torch.equal(a, b) for a, b in zip(shared, separate, strict=True))


def _pass(network, masks, t, data):
    with sub_network(network, masks, t):
        return network(data)


def test_a_stage_in_front_of_the_first_dropout_runs_once_and_others_each_time():
    network, data = unet(), images(2)
    insert_dropout(network)
    runs = {"first convolution": 0, "bottleneck": 0}

    def count(name):
        def hook(*_):
            runs[name] += 1

        return hook

    network.encoder.stages[0][0].convs[0].conv.register_forward_hook(count("first convolution"))
    network.encoder.stages[-1][0].convs[0].conv.register_forward_hook(count("bottleneck"))
    masks = draw_masks(network, data[:1], 5, np.random.default_rng(0))
    runs.update(dict.fromkeys(runs, 0))
    sampled_probabilities(network, data, masks)
    assert runs == {"first convolution": 1, "bottleneck": 5}


def test_another_input_is_computed_anew_and_afterwards_nothing_is_remembered():
    network = unet()
    insert_dropout(network)
    one, two = images(2, seed=1), images(2, seed=2)
    with evaluating(network), torch.no_grad():
        expected = [network(one), network(two)]
        with shared_prefix(network):
            answers = [network(one), network(two)]
        assert all(torch.equal(a, b) for a, b in zip(answers, expected, strict=True))
        assert "forward" not in network.encoder.stages[0].__dict__
        one.mul_(2)
        assert not torch.equal(network(one), expected[0])
