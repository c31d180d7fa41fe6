"""Vectors of regions: the sum over their windows, however the work is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_al.nnunet.pool_embedding import Embedder
from nnunet_al.scoring.features import bottleneck_features
from nnunet_al.scoring.gradients import gradient_entries, sketched_gradients
from nnunet_al.scoring.layers import bottleneck_convolution, decoder_convolution
from nnunet_al.scoring.segmentation_loss import self_loss
from nnunet_al.scoring.sketch import CountSketch

from .pools import PATCHES, make_network, make_pool


def vectors_of(kind: str, network: torch.nn.Module):
    if kind == "features":
        return lambda data, weight: bottleneck_features(network, data, weight)
    layer = {"truncated": bottleneck_convolution, "sketched": bottleneck_convolution, "badge": decoder_convolution}[
        kind
    ]
    ((name, module),) = layer(network).items()
    if kind == "sketched":
        sketch = CountSketch(module.weight.numel(), 20, np.random.default_rng(1))
        return lambda data, weight: sketched_gradients(network, data, weight, {name: module}, sketch)
    entries = {name: np.arange(30)}
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


@pytest.mark.parametrize("kind", ["features", "truncated", "sketched", "badge"])
@pytest.mark.parametrize("dims", ["2d", "3d"])
def test_chunked_is_whole_and_sharded_is_whole(dims, kind):
    whole_N_d = embeddings(dims, kind, [["a", "b", "c"]])
    assert np.isfinite(whole_N_d).all()
    assert (np.abs(whole_N_d).sum(1) > 0).all()
    np.testing.assert_array_equal(embeddings(dims, kind, [["c"], ["b"], ["a"]], chunk=1), whole_N_d)


def test_features_of_a_case_are_the_mean_over_its_windows():
    pool, numbers = make_pool("2d")
    network = make_network("2d")
    found_N_d = embeddings("2d", "features", [["a", "b", "c"]])
    # case c: eight slices of the patch's size, so eight windows that count alike
    image_C_xyz = pool.read_image("c")
    with torch.no_grad():
        maps = network.encoder.stages(torch.from_numpy(image_C_xyz).transpose(0, 1))
    np.testing.assert_allclose(found_N_d[numbers["c"][0]], maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
