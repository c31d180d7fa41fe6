"""Vectors of regions: the sum over their windows, however the work is cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scoring.plain import likelihood_of_heads, mean_of_squares

from nnunet_al.nnunet import pool_scoring
from nnunet_al.nnunet.pool_embedding import Embedder
from nnunet_al.pool.windows import cell_mask, read_window, windows_of
from nnunet_al.scoring.features import bottleneck_features
from nnunet_al.scoring.gradients import gradient_entries, sketched_gradients
from nnunet_al.scoring.layers import bottleneck_convolution, convolutions, decoder_convolution, decoder_convolutions
from nnunet_al.scoring.segmentation_loss import self_loss
from nnunet_al.scoring.sketch import CountSketch

from .pools import PATCHES, make_network, make_pool


def vectors_of(kind: str, network: torch.nn.Module):
    if kind == "features":
        return lambda data, weight: bottleneck_features(network, data, weight)
    layer = decoder_convolution if kind == "badge" else bottleneck_convolution
    ((name, module),) = layer(network).items()
    if kind == "sketched":
        sketch = CountSketch(module.weight.numel(), 20, np.random.default_rng(1))
        return lambda data, weight: sketched_gradients(network, data, weight, {name: module}, sketch)
    entries = {name: np.arange(30)}
    if kind == "heads":
        wanted = {name: np.arange(5) for name in decoder_convolutions(network)}
        return lambda data, weight: gradient_entries(network, data, weight, wanted, heads=2)
    if kind == "badge":
        return lambda data, weight: gradient_entries(network, data, weight, entries, objective=self_loss)
    return lambda data, weight: gradient_entries(network, data, weight, entries)


def embeddings(dims: str, kind: str, shards: list[list[str]], chunk: int = 64) -> np.ndarray:
    pool, numbers = make_pool(dims)
    network = make_network(dims)
    embedder = Embedder(network, True, torch.device("cpu"), chunk, 1)
    vectors = vectors_of(kind, network)
    out_N_d = np.zeros((len(pool.regions), embedder.dimensions(vectors, PATCHES[dims], 2)), np.float32)
    row = {number: number for number in range(len(pool.regions))}
    for cases in shards:
        embedder.embed(pool, {case: numbers[case] for case in cases}, vectors, 1.0, out_N_d, row)
    return out_N_d


@pytest.mark.parametrize("kind", ["features", "truncated", "sketched", "badge", "heads"])
@pytest.mark.parametrize("dims", ["2d", "3d"])
def test_chunked_is_whole_and_sharded_is_whole(dims, kind):
    whole_N_d = embeddings(dims, kind, [["a", "b", "c"]])
    assert np.isfinite(whole_N_d).all()
    assert (np.abs(whole_N_d).sum(1) > 0).all()
    np.testing.assert_array_equal(embeddings(dims, kind, [["c"], ["b"], ["a"]], chunk=1), whole_N_d)


@pytest.mark.parametrize("unit", ["case", "slice"])
def test_stopped_between_any_two_batches_and_continued_is_whole(unit, monkeypatch):
    monkeypatch.setattr(pool_scoring, "micro_batch_size", lambda patch_size: 5)
    pool, numbers = make_pool("2d", unit)
    numbers = {case: numbers[case] for case in ("b", "c", "a")}
    order = [number for some in numbers.values() for number in some]
    network = make_network("2d")
    embedder = Embedder(network, True, torch.device("cpu"), 64, 1)
    vectors = vectors_of("truncated", network)
    row = {number: number for number in order}
    seen: list[int] = []
    whole_N_d = np.full((len(order), 30), np.nan, np.float32)
    embedder.embed(pool, numbers, vectors, 3.0, whole_N_d, row, lambda so_far: seen.append(len(so_far())))
    assert len(seen) == 12, "59 windows"
    assert seen[0] == 0
    for stop in range(0, len(seen), 3):
        out_N_d, kept = np.full_like(whole_N_d, np.nan), []

        def keep(so_far, kept=kept, stop=stop):
            kept.append(so_far())
            if len(kept) > stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            embedder.embed(pool, numbers, vectors, 3.0, out_N_d, row, keep)
        known = kept[-1]
        assert known == order[: seen[stop]]
        np.testing.assert_array_equal(out_N_d[known], whole_N_d[known], "complete means that nothing is added")
        left = {case: [number for number in some if number not in known] for case, some in numbers.items()}
        embedder.embed(pool, left, vectors, 3.0, out_N_d, row)
        np.testing.assert_array_equal(out_N_d, whole_N_d)


def test_features_of_a_case_are_the_mean_over_its_windows():
    pool, numbers = make_pool("2d")
    network = make_network("2d")
    found_N_d = embeddings("2d", "features", [["a", "b", "c"]])
    # case c: eight slices of the patch's size, so eight windows that count alike
    image_C_xyz = pool.read_image("c")
    with torch.no_grad():
        maps = network.encoder.stages(torch.from_numpy(image_C_xyz).transpose(0, 1))
    np.testing.assert_allclose(found_N_d[numbers["c"][0]], maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads, wanted", [(1, convolutions), (1, decoder_convolutions), (2, decoder_convolutions)])
@pytest.mark.parametrize("dims,unit", [("2d", "case"), ("3d", "case"), ("2d", "patch")])
def test_fisher_is_the_mean_over_regions_of_the_squared_sum_over_their_windows(dims, unit, heads, wanted):
    pool, numbers = make_pool(dims, unit)
    network = make_network(dims).double()
    some = {case: numbers[case][:3] for case in numbers}
    times = {number: 1 + number % 2 for drawn in some.values() for number in drawn}
    layers, samples = wanted(network), []
    for case, drawn in some.items():
        for number in drawn:
            box = pool.geometries[case].to_network(pool.regions[number].box)
            total: dict[str, torch.Tensor] = {}
            for window in windows_of(box, PATCHES[dims], pool.geometries[case].network_shape):
                data = torch.from_numpy(read_window(pool.read_image(case), window))[None].double()
                mask = torch.from_numpy(cell_mask(window))[None].double()
                if dims == "2d":
                    data, mask = data.squeeze(2), mask.squeeze(1)
                voxels = np.prod([end - start for start, end in box])
                network.decoder.deep_supervision = True
                value = likelihood_of_heads(network(data)[:heads], mask / voxels)
                network.decoder.deep_supervision = False
                weights = [layer.weight for layer in layers.values()]
                found = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
                total = {name: one[None] + total.get(name, 0) for name, one in zip(layers, found, strict=True)}
            samples += [total] * times[number]
    expected = mean_of_squares(samples)
    embedder = Embedder(network, True, torch.device("cpu"), 64, 1)
    pool = replace(pool, read_image=lambda case, read=pool.read_image: read(case).astype(np.float64))
    fishers = [embedder.fisher(pool, some, times, layers, heads)]
    fishers += [replace(embedder, chunk_windows=1).fisher(pool, some, times, layers, heads)]
    for fisher in fishers:
        for name, values in expected.items():
            # the voxels' weights are float32
            np.testing.assert_allclose(fisher[name], values, rtol=1e-5, atol=1e-6 * float(values.max()))
            np.testing.assert_allclose(fisher[name], fishers[0][name], rtol=1e-10)
