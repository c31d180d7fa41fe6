from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from nnunet_al.scoring import correlation, entries
from nnunet_al.scoring.correlation import LayerGradient, kernel_offsets, summed_parts, whole_gradient
from nnunet_al.scoring.entries import layer_entries

LAYERS = {
    "as nnU-Net's": lambda: nn.Conv2d(3, 5, 3, padding=1),
    "1 x 1": lambda: nn.Conv2d(4, 2, 1),
    "halves": lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1),
    "doubles": lambda: nn.ConvTranspose2d(3, 4, 2, stride=2),
    "dilated": lambda: nn.Conv2d(2, 3, 3, padding=2, dilation=2),
    "no padding": lambda: nn.Conv2d(2, 3, 3),
    "much padding": lambda: nn.Conv2d(2, 3, 3, padding=9, stride=3),
    "wide offsets": lambda: nn.Conv2d(2, 3, 2, padding=5, dilation=10),
    "uneven": lambda: nn.Conv2d(2, 3, (3, 1), stride=(1, 2), padding=(2, 0)),
    "transposed, padded": lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1),
    "transposed, not strided": lambda: nn.ConvTranspose2d(2, 3, 3, padding=1),
    "volumes": lambda: nn.Conv3d(2, 3, (1, 3, 3), padding=(0, 1, 1)),
    "volumes halved": lambda: nn.Conv3d(3, 2, 3, stride=(1, 2, 2), padding=1),
    "volumes doubled": lambda: nn.ConvTranspose3d(3, 2, 2, stride=2),
}


def _use(kind: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A layer, an input, and any gradient of its output."""
    torch.manual_seed(0)
    layer = LAYERS[kind]().to(dtype)
    sizes = (7, 6) if layer.weight.ndim == 4 else (4, 6, 5)
    data = torch.randn(3, layer.in_channels, *sizes, dtype=dtype)
    with torch.no_grad():
        output_gradient = torch.randn_like(layer(data))
    return layer, data, output_gradient


def _reference(layer: nn.Module, data: torch.Tensor, output_gradient: torch.Tensor) -> torch.Tensor:
    bias = layer.bias.detach()

    def single(weight: torch.Tensor, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return (functional_call(layer, {"weight": weight, "bias": bias}, (x[None],))[0] * g).sum()

    return vmap(grad(single), in_dims=(None, 0, 0))(layer.weight.detach(), data, output_gradient)


@pytest.mark.parametrize("copy", [0, 10**9])
@pytest.mark.parametrize("kind", LAYERS)
def test_parts_are_torchs_gradient_with_copies_and_with_views(
    kind: str, copy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correlation, "COPY", copy)
    layer, data, output_gradient = _use(kind)
    use = LayerGradient(layer, data, output_gradient)
    assert all(use.part(k).is_contiguous() for k in range(kernel_offsets(layer)))
    expected = _reference(layer, data, output_gradient)
    torch.testing.assert_close(whole_gradient(layer, summed_parts(layer, [use], 3)), expected, rtol=1e-10, atol=1e-10)
    twice = whole_gradient(layer, summed_parts(layer, [use, use], 3))
    torch.testing.assert_close(twice, 2 * expected, rtol=1e-10, atol=1e-10)


def test_which_layers_need_no_copies() -> None:
    free = {kind for kind in LAYERS if LayerGradient(*_use(kind))._slides}
    strided = {"halves", "doubles", "much padding", "uneven", "transposed, padded", "volumes halved", "volumes doubled"}
    assert free == set(LAYERS) - strided


def test_a_product_that_would_be_too_long_is_not_taken() -> None:
    # 4 x 4 positions in rows of 6: 3 · 6 + 4 = 22 instead of 16; 256 · (22 - 16) > 48 · 16 >= 64 · (22 - 16)
    deep, shallow = (
        LayerGradient(nn.Conv2d(1, count, 3, padding=1), torch.zeros(1, 1, 4, 4), torch.zeros(1, count, 4, 4))
        for count in (256, 64)
    )
    assert not deep._slides
    assert shallow._slides


@pytest.mark.parametrize("kind", LAYERS)
def test_a_block_is_a_block_of_the_part(kind: str) -> None:
    layer, data, output_gradient = _use(kind)
    use = LayerGradient(layer, data, output_gradient)
    count_p, count_i = layer.weight.shape[:2]
    for k in range(kernel_offsets(layer)):
        for rows, columns in ([0, count_p - 1], [1]), ([1], list(range(count_i))), (list(range(count_p)), [0]):
            expected = use.part(k)[:, rows][:, :, columns]
            torch.testing.assert_close(use.block(k, rows, columns), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("copy", [-(10**9), 0, 10**9])
@pytest.mark.parametrize("kind", ["as nnU-Net's", "doubles", "volumes halved", "wide offsets"])
def test_entries_in_any_order_by_blocks_and_by_whole_parts(
    kind: str, copy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "COPY", copy)
    layer, data, output_gradient = _use(kind)
    uses = [LayerGradient(layer, data, output_gradient), LayerGradient(layer, data, 2 * output_gradient)]
    whole = whole_gradient(layer, summed_parts(layer, uses, 3)).flatten(1)
    rng = np.random.default_rng(0)
    for indices in (rng.integers(0, whole.shape[1], 25), np.array([whole.shape[1] - 1]), np.arange(whole.shape[1])):
        found = layer_entries(layer, uses, indices, data)
        torch.testing.assert_close(found, whole[:, torch.from_numpy(indices)], rtol=1e-10, atol=1e-10)
    assert layer_entries(layer, [], indices, data).tolist() == torch.zeros(3, len(indices)).tolist()


def test_few_entries_take_blocks_and_many_take_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Conv2d(64, 64, 3, padding=1)
    taken: list[Any] = []
    block, part = LayerGradient.block, LayerGradient.part
    monkeypatch.setattr(LayerGradient, "block", lambda *args: taken.append(args[2:]) or block(*args))
    monkeypatch.setattr(LayerGradient, "part", lambda *args: taken.append(args[1]) or part(*args))
    use = LayerGradient(layer, torch.randn(2, 64, 5, 5), torch.randn(2, 64, 5, 5))
    # [p, i, k] = [3, 7, 0], [3, 9, 0], [5, 7, 0]; 64 rows at k = 4; nothing at the other offsets
    few = np.array([(3 * 64 + 7) * 9, (3 * 64 + 9) * 9, (5 * 64 + 7) * 9])
    layer_entries(layer, [use], np.concatenate([np.arange(64) * 64 * 9 + 4, few]), torch.zeros(2))
    # 64 · 1 + 48 · 65 = 3184 < 4096: a block; with 20 columns 64 · 20 + 48 · 84 > 4096: the part
    assert taken == [([3, 5], [7, 9]), ([*range(64)], [0])]
    taken.clear()
    every = (np.arange(64)[:, None] * 64 + np.arange(20)) * 9 + 4
    layer_entries(layer, [use], every.ravel(), torch.zeros(2))
    assert taken == [4]


def test_a_sample_does_not_depend_on_the_others() -> None:
    layer, data, output_gradient = _use("as nnU-Net's", torch.float32)
    indices = np.arange(0, layer.weight.numel(), 4)
    first = layer_entries(layer, [LayerGradient(layer, data, output_gradient)], indices, data)
    data, output_gradient = data.clone(), output_gradient.clone()
    data[1:], output_gradient[1:] = 1e6, -1e6
    other = layer_entries(layer, [LayerGradient(layer, data, output_gradient)], indices, data)
    assert torch.equal(first[0], other[0])
    assert not torch.allclose(first[1], other[1])
