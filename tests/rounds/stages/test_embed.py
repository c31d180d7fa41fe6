"""The entries of a gradient that describe a window."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scoring.networks import images, unet

from nnunet_al.files import write_arrays
from nnunet_al.nnunet.pool_embedding import Embedder
from nnunet_al.rounds.stages.embed import _vectors
from nnunet_al.scoring.gradients import gradient_entries
from nnunet_al.scoring.layers import bottleneck_convolution
from nnunet_al.seeding import generator
from nnunet_al.strategies.catalog import get, with_parameters
from nnunet_al.strategies.recipe import Recipe


def vectors_of(recipe: Recipe, dims: int, seed: int = 0, fisher: object = None) -> np.ndarray:
    context = SimpleNamespace(
        decided=SimpleNamespace(recipe=recipe), rng=partial(generator, seed, 1), round=SimpleNamespace(fisher=fisher)
    )
    vectors, scale_d = _vectors(context, Embedder(unet(dims=dims, stages=3), True, torch.device("cpu"), 1, 1))
    data = images(2, dims)
    return vectors(data, torch.full_like(data[:, 0], 1 / data[0, 0].numel())).numpy() * scale_d


@pytest.mark.parametrize("dims", [2, 3])
def test_usimc_draws_its_entries_in_3d_and_takes_the_first_in_2d(dims: int) -> None:
    small = with_parameters(get("usimc"), embedding_size=40)
    found = {
        compression: vectors_of(with_parameters(small, compression=compression), dims)
        for compression in ("auto", "random", "truncate")
    }
    np.testing.assert_array_equal(found["auto"], found["random" if dims == 3 else "truncate"])
    assert not np.array_equal(found["random"], found["truncate"])
    assert found["random"].shape == (2, 40)
    drawn = with_parameters(small, compression="random")
    np.testing.assert_array_equal(vectors_of(drawn, dims), found["random"])
    assert not np.array_equal(vectors_of(drawn, dims, seed=1), found["random"])
    ((_name, layer),) = bottleneck_convolution(unet(dims=dims)).items()
    whole = vectors_of(with_parameters(get("usimc"), compression="truncate"), dims)
    assert whole.shape[1] == layer.weight.numel()
    np.testing.assert_allclose(found["truncate"], whole[:, :40], rtol=1e-4, atol=1e-8)
    assert np.isin(found["random"][0].round(6), whole[0].round(6)).mean() > 0.9


def test_heads_are_those_of_the_fisher_information_and_one_in_files_of_before(tmp_path) -> None:
    network, data, file = unet(), images(2), tmp_path / "fisher.npz"
    weight = torch.full_like(data[:, 0], 1 / 256)
    name, entries = "decoder.stages.0.convs.0.conv", np.arange(0, 50, 3)
    for heads, more in ((1, {}), (2, {"heads": np.array(2)})):
        write_arrays(file, scale_d=np.full(len(entries), 2.0), **{f"entries/{name}": entries}, **more)
        expected = gradient_entries(network, data, weight, {name: entries}, heads=heads).numpy() * 2
        np.testing.assert_array_equal(vectors_of(get("usimf"), 2, fisher=file), expected)
