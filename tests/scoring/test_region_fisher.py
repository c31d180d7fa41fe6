from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from nnunet_al.scoring.gradients import visit_gradients, weight_gradients
from nnunet_al.scoring.layers import convolutions
from nnunet_al.scoring.region_fisher import RegionFisher

from .networks import images, unet
from .plain import mean_of_squares
from .test_gradients import Odd

OWNERS = [4, 4, 4, 7, 2, 2, 9]
TIMES = {4: 1, 7: 3, 2: 2, 9: 1}


def _windows(network: nn.Module, dims: int) -> tuple[torch.Tensor, torch.Tensor]:
    data = images(len(OWNERS), dims, dtype=torch.float64)
    with torch.no_grad():
        shape = network(data)[:, 0].shape
    weight = torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return data, weight / weight[0].numel()


def _found(network: nn.Module, dims: int, cuts: Sequence[int], padding: int = 0) -> dict[str, torch.Tensor]:
    data, weight = (torch.cat([windows, windows[:padding]]) for windows in _windows(network, dims))
    layers = convolutions(network)
    diagonal = RegionFisher(layers, TIMES)
    for first, end in zip([0, *cuts], [*cuts, len(OWNERS)], strict=True):
        some = slice(first, end + padding if end == len(OWNERS) else end)
        visit_gradients(network, data[some], weight[some], layers, diagonal.visitor(OWNERS[first:end]))
    return diagonal.mean()


def _expected(network: nn.Module, dims: int) -> dict[str, torch.Tensor]:
    gradients = weight_gradients(network, *_windows(network, dims), convolutions(network))
    samples = []
    for region, times in TIMES.items():
        mine = [index for index, owner in enumerate(OWNERS) if owner == region]
        total = {name: gradient[mine].sum(0, keepdim=True) for name, gradient in gradients.items()}
        samples += [total] * times
    return mean_of_squares(samples)


@pytest.mark.parametrize("kind,dims", [("plain", 2), ("plain", 3), ("residual", 2), ("odd", 2), ("odd", 3)])
def test_equal_to_the_mean_of_squares_of_whole_gradients(kind: str, dims: int) -> None:
    # the odd network uses a layer twice and another one never
    network = (Odd(dims) if kind == "odd" else unet(kind, dims)).double()
    found, expected = _found(network, dims, []), _expected(network, dims)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == torch.float64
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-20)
    assert sum(bool(value.any()) for value in expected.values()) == len(expected) - 1


@pytest.mark.parametrize("cuts", [[1], [3], [1, 2, 3, 4, 5, 6], [2, 5], [6]])
def test_where_batches_are_cut_changes_nothing(cuts: list[int]) -> None:
    network = unet().double()
    whole = _found(network, 2, [])
    for name, value in _found(network, 2, cuts, padding=2).items():
        torch.testing.assert_close(value, whole[name], rtol=1e-10, atol=1e-20)


def test_by_hand() -> None:
    layer = nn.Conv2d(1, 1, (1, 2))
    diagonal = RegionFisher({"a": layer}, {0: 1, 1: 3})

    def parts(*values: list[float]):
        return iter([torch.tensor(value).reshape(-1, 1, 1) for value in values])

    diagonal.visitor([0, 0])("a", parts([1.0, 2.0, 99.0], [0.5, -0.5, 99.0]))
    diagonal.visitor([0, 1])("a", parts([-1.0, 2.0], [1.0, 4.0]))
    # region 0: 1 + 2 - 1 = 2 and 0.5 - 0.5 + 1 = 1; region 1, three times: 2 and 4
    assert diagonal.mean()["a"].tolist() == [[[[(4 + 3 * 4) / 4, (1 + 3 * 16) / 4]]]]


def test_windows_of_a_region_must_come_together() -> None:
    diagonal = RegionFisher({}, {0: 1, 1: 1})
    diagonal.visitor([0, 1])
    diagonal.visitor([1])
    with pytest.raises(AssertionError, match="one after the other"):
        diagonal.visitor([0])
    with pytest.raises(AssertionError, match="one after the other"):
        RegionFisher({}, {0: 1, 1: 1}).visitor([0, 1, 0])
