"""A pool in memory: random images, regions of several windows, and a tiny network that sees them."""

from __future__ import annotations

import numpy as np
import torch
from scoring.networks import unet

from nnunet_al.nnunet.window_stream import Pool
from nnunet_al.pool.boxes import Region
from nnunet_al.pool.geometry import CaseGeometry
from nnunet_al.pool.tiling import tile_case

PATCHES = {"2d": (16, 16), "3d": (8, 8, 8)}


def make_pool(dims: str, unit: str = "case") -> tuple[Pool, dict[str, list[int]]]:
    """Return a pool of three cases with two channels, one of them smaller than the patch, and its regions by case."""
    rng = np.random.default_rng(0)
    shapes = {"a": (9, 20, 18), "b": (5, 10, 40), "c": (8, 16, 16)}
    images = {case: rng.normal(size=(2, *shape)).astype(np.float32) for case, shape in shapes.items()}
    geometries = {
        case: CaseGeometry(case, shape, (1.0, 1.0, 1.0), (0, 1, 2), tuple((0, n) for n in shape), shape)
        for case, shape in shapes.items()
    }
    regions: list[Region] = []
    numbers: dict[str, list[int]] = {}
    for case, geometry in geometries.items():
        tiles = tile_case(geometry, unit, PATCHES[dims], 0.5)
        numbers[case] = list(range(len(regions), len(regions) + len(tiles)))
        regions += tiles
    return Pool(regions, geometries, images.__getitem__, PATCHES[dims]), numbers


def make_network(dims: str, classes: int = 3, seed: int = 0, background: float = 0.0) -> torch.nn.Module:
    """Return a network whose output is sharp enough to predict every class, or only the background if it is biased."""
    network = unet(dims={"2d": 2, "3d": 3}[dims], classes=classes, seed=seed).eval()
    with torch.no_grad():
        head = network.decoder.seg_layers[-1]
        head.weight *= 20
        head.bias[0] += background
    return network
