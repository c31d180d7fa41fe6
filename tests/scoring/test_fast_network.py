"""A network that is arranged for speed says what it said before: up to rounding, or to half precision."""

import numpy as np
import pytest
import torch
from torch import nn

from nnunet_al.scoring.dropout import insert_dropout
from nnunet_al.scoring.fast_network import as_weights, fast_network, half_type
from nnunet_al.scoring.gradients import weight_gradients
from nnunet_al.scoring.layers import convolutions
from nnunet_al.scoring.posterior import deterministic_probabilities
from nnunet_al.scoring.samplers import DropoutSampler

from .networks import images, unet


@pytest.mark.parametrize("kind", ["plain", "residual"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("precision, deviation", [("float32", 1e-6), ("half", 0.01)])
def test_the_arranged_network_predicts_the_same(kind, dims, precision, deviation):
    stock = unet(kind, dims).eval()
    arranged = fast_network(unet(kind, dims).eval(), precision)
    assert arranged.state_dict().keys() == stock.state_dict().keys()
    data = images(3, dims)
    expected, found = deterministic_probabilities(stock, data), deterministic_probabilities(arranged, data)
    assert found.dtype == torch.float32
    difference = (found - expected).abs().mean()
    assert difference < deviation
    assert (difference > 1e-4) == (precision == "half")


@pytest.mark.parametrize("precision", ["float32", "half"])
@pytest.mark.parametrize("voxels", [31, 33])  # below and above the size from which channels side by side are summed
def test_norms_of_either_layout_are_instance_norms(precision, voxels):
    norm = nn.InstanceNorm2d(5, affine=True)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(3, 5, 32, voxels) * 2 + 1
    expected = norm(x)
    arranged = fast_network(norm, precision)
    deviation = 1e-5 if precision == "float32" else 0.1
    for layout in (torch.contiguous_format, torch.channels_last):
        found = arranged(as_weights(arranged, x).contiguous(memory_format=layout)).float()
        torch.testing.assert_close(found, expected, rtol=0, atol=deviation)


def test_running_statistics_are_kept():
    norm = nn.InstanceNorm2d(3, affine=True, track_running_stats=True).eval()
    norm.running_mean.fill_(7.0)
    x = torch.randn(2, 3, 4, 4)
    expected = norm(x)
    assert torch.equal(fast_network(norm)(x), expected)


def test_half_precision_samples_rank_as_float32_ones():
    scores = {}
    for precision in ("float32", "half"):
        network = unet().eval()
        insert_dropout(network)
        network = fast_network(network, precision)
        probs = DropoutSampler(network, True, 6, np.random.default_rng(0))(images(40)).probs_T_B_C_xyz
        scores[precision] = probs.var(0).flatten(1).mean(1).numpy()
    assert np.corrcoef(*scores.values())[0, 1] > 0.999
    assert not np.array_equal(*scores.values())


def test_half_precision_of_each_device():
    assert half_type(torch.device("cpu")) == torch.bfloat16
    assert half_type(torch.device("cuda")) == torch.float16


def test_data_take_the_type_of_the_weights():
    data = images(1)
    assert as_weights(nn.Conv2d(2, 2, 1), data) is data
    assert as_weights(nn.ReLU(), data) is data
    assert as_weights(nn.Conv2d(2, 2, 1).bfloat16(), data).dtype == torch.bfloat16


def test_gradients_are_those_of_the_stock_network():
    stock, data = unet().double(), images(3, dtype=torch.float64)
    arranged = fast_network(unet().double())
    layers, weight = convolutions(stock), torch.rand(3, 16, 16, dtype=torch.float64)
    expected = weight_gradients(stock, data, weight, layers)
    found = weight_gradients(arranged, data, weight, convolutions(arranged))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
