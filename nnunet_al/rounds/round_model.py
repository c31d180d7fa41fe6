"""The network of a round, and the pool as it reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from nnunet_al.files import read_json
from nnunet_al.nnunet.checkpoints import read_mirror_axes
from nnunet_al.nnunet.devices import torch_device
from nnunet_al.nnunet.image_store import StoredImage
from nnunet_al.nnunet.model import Plan, load_network
from nnunet_al.nnunet.pool_embedding import Embedder
from nnunet_al.nnunet.prediction import predict_segmentation
from nnunet_al.nnunet.window_stream import Pool
from nnunet_al.rounds.context import RoundContext
from nnunet_al.scoring.fast_network import fast_network


def load_round_model(context: RoundContext, checkpoint: Path) -> tuple[Plan, torch.nn.Module, torch.device]:
    """Load the network of a round, with the plans of its view."""
    dataset_json = read_json(context.round.view.preprocessed / context.decided.dataset / "dataset.json")
    plan = Plan.of(context.plans, dataset_json, context.decided.configuration)
    device = torch_device(context.options.device)
    return plan, load_network(plan, checkpoint, device), device


def make_predictor(
    context: RoundContext, checkpoint: Path, images: Mapping[str, StoredImage], mirroring: bool = False
) -> Callable[[str], np.ndarray]:
    """Return a function from a case to the labels (z, y, x) that a checkpoint predicts.

    With ``mirroring`` they are those of nnU-Net, which averages over mirrored images unless the campaign has decided
    otherwise (``--disable_tta``); without, they take a quarter or an eighth of the time.
    """
    plan, network, device = load_round_model(context, checkpoint)
    axes = read_mirror_axes(checkpoint) if mirroring and not context.decided.disable_tta else ()

    def predict(case: str) -> np.ndarray:
        stored = images[case]
        return predict_segmentation(network, plan, stored.open()[:], stored.properties(), device, axes)

    return predict


def window_pool(context: RoundContext) -> Pool:
    """Return the regions with a way to read their preprocessed images."""
    images = context.pool_images()
    patch_size = tuple(context.configuration["patch_size"])
    ranges = context.decided.recipe.parameters.get("noise_unit") == "percentiles"
    return Pool(context.regions, context.geometries, lambda case: images[case].open()[:], patch_size, ranges)


def make_embedder(context: RoundContext) -> Embedder:
    """Return the embedder that describes windows by vectors under the round's own model."""
    plan, network, device = load_round_model(context, context.checkpoint(context.round))
    options = context.options
    return Embedder(fast_network(network), plan.exclusive, device, options.scoring_batch_size, options.workers)
