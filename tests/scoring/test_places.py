"""A sample's numbers are the same to the bit wherever it lies in memory and in its batch, whatever is beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from places import OFFSETS, bits, round_by_address, tensor_at, threads
from torch import nn

from nnunet_al.scoring.correlation import LayerGradient, kernel_offsets, summed_parts
from nnunet_al.scoring.entries import layer_entries
from nnunet_al.scoring.fast_network import fast_network
from nnunet_al.scoring.features import bottleneck_features, share_by_area
from nnunet_al.scoring.gradients import gradient_entries, log_likelihood, sketched_gradients, visit_gradients
from nnunet_al.scoring.layers import convolutions, decoder_convolution, decoder_convolutions
from nnunet_al.scoring.learning_loss import LossModule, LossSampler, stage_channels
from nnunet_al.scoring.posterior import deterministic_probabilities, head_probabilities
from nnunet_al.scoring.reductions import ClassMeans, ClassWeighted
from nnunet_al.scoring.region_fisher import RegionFisher
from nnunet_al.scoring.region_sums import Evidence
from nnunet_al.scoring.segmentation_loss import self_loss
from nnunet_al.scoring.sketch import CountSketch
from nnunet_al.strategies.kinds import loaded

from .networks import unet
from .voxel_maps import MAPS

BATCH = 7
Numbers = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Case:
    """A function of samples: shapes of its inputs for one sample, and what it makes of batches of them."""

    shapes: tuple[tuple[int, ...], ...]
    function: Numbers
    half: bool = False  # whether it is ever given bfloat16


def convolution(kind: Callable[[], nn.Module], sizes: tuple[int, ...], summary: Callable[..., torch.Tensor]) -> Case:
    torch.manual_seed(0)
    layer = kind()
    with torch.no_grad():
        output = layer(torch.zeros(1, layer.in_channels, *sizes)).shape[1:]

    def function(data: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return summary(layer.to(data.dtype), [LayerGradient(layer, data, gradient)], data)

    return Case(((layer.in_channels, *sizes), tuple(output)), function, half=True)


def every_part(layer: nn.Module, uses: list[LayerGradient], data: torch.Tensor) -> torch.Tensor:
    return torch.cat([part.flatten(1) for part in summed_parts(layer, uses, len(data))], 1)


def some_blocks(layer: nn.Module, uses: list[LayerGradient], data: torch.Tensor) -> torch.Tensor:
    blocks = [uses[0].block(k, [0, layer.weight.shape[0] - 1], [1, 2]) for k in range(kernel_offsets(layer))]
    return torch.cat([block.flatten(1) for block in blocks], 1)


def some_entries(layer: nn.Module, uses: list[LayerGradient], data: torch.Tensor) -> torch.Tensor:
    return layer_entries(layer, uses, np.arange(0, layer.weight.numel(), 7), data)


def network(kind: str = "plain", classes: int = 3, stages: int = 3) -> nn.Module:
    return fast_network(unet(kind, 2, classes, stages=stages).requires_grad_(True))


def of_network(
    summary: Callable[..., torch.Tensor], kind: str = "plain", exclusive: bool = True, stages: int = 3
) -> Case:
    made = network(kind, stages=stages)

    def function(data: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return summary(made, data, weight.abs(), exclusive)

    return Case(((2, 24, 8), (24, 8)) if stages > 3 else ((2, 20, 12), (20, 12)), function)


def entries_of(made: nn.Module, data: torch.Tensor, weight: torch.Tensor, exclusive: bool) -> torch.Tensor:
    entries = {name: np.arange(0, layer.weight.numel(), 5) for name, layer in convolutions(made).items()}
    return gradient_entries(made, data, weight, entries, exclusive)


def decoder_entries_of(made: nn.Module, data: torch.Tensor, weight: torch.Tensor, exclusive: bool) -> torch.Tensor:
    entries = {name: np.arange(0, layer.weight.numel(), 5) for name, layer in decoder_convolutions(made).items()}
    return gradient_entries(made, data, weight, entries, exclusive, heads=3)


def sketch_of(made: nn.Module, data: torch.Tensor, weight: torch.Tensor, exclusive: bool) -> torch.Tensor:
    layer = decoder_convolution(made)
    sketch = CountSketch(next(iter(layer.values())).weight.numel(), 19, np.random.default_rng(0))
    return sketched_gradients(made, data, weight, layer, sketch, exclusive, self_loss)


def fisher_of(
    made: nn.Module, data: torch.Tensor, weight: torch.Tensor, exclusive: bool, heads: int = 1
) -> torch.Tensor:
    layers, regions = convolutions(made), range(len(data))
    # in each of the sums another sample is the only one that counts
    diagonals = [RegionFisher(layers, {region: int(region == place) for region in regions}) for place in regions]
    visitors = [diagonal.visitor(regions) for diagonal in diagonals]

    def visit(name: str, parts: Iterator[torch.Tensor]) -> None:
        kept = list(parts)
        for visitor in visitors:
            visitor(name, iter(kept))

    visit_gradients(made, data, weight, layers, visit, exclusive, heads=heads)
    return torch.stack([torch.cat([values.flatten() for values in one.mean().values()]) for one in diagonals])


def predicted_losses(made: nn.Module, data: torch.Tensor, weight: torch.Tensor, exclusive: bool) -> torch.Tensor:
    torch.manual_seed(1)
    return LossSampler(made, LossModule(stage_channels(made)), exclusive)(data).predicted_loss_B


def gradient_of(objective: Callable[..., torch.Tensor], exclusive: bool) -> Case:
    def function(logits: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        logits = logits.requires_grad_()
        return torch.autograd.grad(objective(logits, weight.abs(), exclusive).sum(), logits)[0]

    return Case(((3, 9, 11), (9, 11)), function, half=True)


def map_of(name: str) -> Case:
    def function(*logits: torch.Tensor) -> torch.Tensor:
        probs_T_B_C_xyz = torch.stack([head_probabilities(some.float(), True) for some in logits])
        return loaded(MAPS[name].function)(probs_T_B_C_xyz, True)

    return Case(((3, 9, 11),) * 3, function, half=True)


def region_scores(values: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
    mask, evidence = chances[:, 0] > 0, Evidence(chances[:, 0], chances[:, 0] > 0, chances[:, 0] > 0, chances[:, 0])
    partials = ClassMeans().partial(values, mask, evidence)
    return torch.from_numpy(ClassWeighted().finish(partials, annotated_voxels_C=np.array([3, 50, 7])))


PLANE, VOLUME = (19, 23), (5, 9, 7)
CASES = {
    "parts of a layer": convolution(lambda: nn.Conv2d(3, 5, 3, padding=1), PLANE, every_part),
    "parts of the first layer": convolution(lambda: nn.Conv2d(1, 32, 3, padding=1), PLANE, every_part),
    "parts of the head": convolution(lambda: nn.Conv2d(32, 3, 1), PLANE, every_part),
    "parts of a strided layer": convolution(lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), PLANE, every_part),
    "parts of a transposed layer": convolution(lambda: nn.ConvTranspose2d(3, 4, 2, stride=2), PLANE, every_part),
    "parts of a volume's layer": convolution(lambda: nn.Conv3d(3, 2, 3, padding=1), VOLUME, every_part),
    "blocks of a layer": convolution(lambda: nn.Conv2d(3, 5, 3, padding=1), PLANE, some_blocks),
    "blocks of a strided volume's layer": convolution(
        lambda: nn.Conv3d(3, 4, 3, stride=(1, 2, 2), padding=1), VOLUME, some_blocks
    ),
    "entries of a layer": convolution(lambda: nn.Conv2d(64, 64, 3, padding=1), (5, 7), some_entries),
    "entries of a network": of_network(entries_of),
    "entries of a residual network": of_network(entries_of, "residual"),
    "entries of heads": of_network(entries_of, exclusive=False),
    "entries of a decoder's heads": of_network(decoder_entries_of, stages=4),
    "entries of a residual network's decoder": of_network(decoder_entries_of, "residual", stages=4),
    "entries of a decoder's sigmoid heads": of_network(decoder_entries_of, exclusive=False, stages=4),
    "a sketch": of_network(sketch_of),
    "a sketch of heads": of_network(sketch_of, exclusive=False),
    "Fisher information": of_network(fisher_of),
    "Fisher information of two heads": of_network(partial(fisher_of, heads=2)),
    "features": of_network(lambda made, data, weight, _: bottleneck_features(made, data, weight)),
    "flattened features": of_network(lambda made, data, weight, _: bottleneck_features(made, data, weight, True)),
    "shares by area": Case(((35, 33),), lambda weight: share_by_area(weight, torch.Size((5, 4))), half=True),
    "predicted losses": of_network(predicted_losses),
    "probabilities of a network": of_network(
        lambda made, data, weight, exclusive: deterministic_probabilities(made, data, exclusive)[0]
    ),
    "softmax": Case(((3, 9, 11),), lambda logits: head_probabilities(logits.float(), True), half=True),
    "sigmoid": Case(((3, 9, 11),), lambda logits: head_probabilities(logits.float(), False), half=True),
    "gradient of the likelihood": gradient_of(log_likelihood, True),
    "gradient of the heads' likelihood": gradient_of(log_likelihood, False),
    "gradient of the loss": gradient_of(self_loss, True),
    "gradient of the heads' loss": gradient_of(self_loss, False),
    "scores of regions": Case(((3, 9, 11), (1, 9, 11)), region_scores),
    **{f"map {name}": map_of(name) for name in MAPS},
}


@pytest.fixture(params=["torch's products", "products that round by address"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "torch's products":
        round_by_address(monkeypatch)


def samples(case: Case, dtype: torch.dtype, count: int = BATCH) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(count, *shape, generator=generator).to(dtype) for shape in case.shapes]


def kinds() -> list:
    return [
        pytest.param(name, dtype, id=f"{name}, {str(dtype).removeprefix('torch.')}")
        for name, case in CASES.items()
        for dtype in ((torch.float32, torch.bfloat16) if case.half else (torch.float32,))
    ]


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name, dtype", kinds())
def test_a_samples_place_in_the_batch_changes_no_bit(name: str, dtype: torch.dtype, count: int) -> None:
    case = CASES[name]
    batch = samples(case, dtype)
    with threads(count):
        expected = bits(case.function(*(values.clone() for values in batch)))
        for place in range(1, BATCH):
            found = case.function(*(values.roll(place, 0) for values in batch))
            assert bits(found.roll(-place, 0)) == expected, place


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name, dtype", kinds())
def test_where_a_batch_lies_in_memory_changes_no_bit(name: str, dtype: torch.dtype, count: int) -> None:
    case = CASES[name]
    batch = samples(case, dtype, 3)
    with threads(count):
        found = {bits(case.function(*(tensor_at(values, offset) for values in batch))) for offset in OFFSETS}
    assert len(found) == 1
