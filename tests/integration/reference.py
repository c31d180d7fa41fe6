"""Scores and gradients of regions the plain way: one region after the other, one window after the other."""

from __future__ import annotations

import numpy as np
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from scoring.plain import likelihood_of_heads

from nnunet_al.files import read_json
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round_model import window_pool
from nnunet_al.scoring.dropout import draw_masks, dropout_layers, insert_dropout
from nnunet_al.scoring.posterior import micro_batch_size

from .campaigns import read_volume, weights


class Reference:
    """One trained round, looked at with as little of the package as possible."""

    def __init__(self, context: RoundContext) -> None:
        self.context = context
        configuration = context.plans["configurations"][context.decided.configuration]
        self.patch = configuration["patch_size"]
        architecture = configuration["architecture"]
        labels = read_json(context.round.view.preprocessed / context.decided.dataset / "dataset.json")["labels"]
        self.ignore = labels["ignore"]
        self.network = get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            1,
            len(labels) - 1,
            deep_supervision=False,
        ).eval()
        self.network.load_state_dict(weights(context.checkpoint(context.round)))
        self.read = window_pool(context).read_image

    def candidates(self) -> list[int]:
        label_of = {case: read_volume(self.context.composed_label(case)) for case in self.context.annotated_cases}
        return [
            number
            for number, region in enumerate(self.context.regions)
            if region.case not in label_of
            or (label_of[region.case][tuple(slice(*side) for side in region.box)] == self.ignore).any()
        ]

    def windows(self, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """(image (C, patch), counted voxels (patch)) of each window; cells are cut as evenly as integers allow."""
        region = self.context.regions[number]
        geometry = self.context.geometries[region.case]
        image = self.read(region.case)
        sides = []
        for axis, raw_axis in enumerate(geometry.transpose_forward):
            low, high = geometry.crop_box[axis]
            factor = geometry.network_shape[axis] / (high - low)
            first = np.clip(region.box[raw_axis][0], low, high) - low
            last = np.clip(region.box[raw_axis][1], low, high) - low
            sides.append((int(np.floor(first * factor + 1e-9)), int(np.ceil(last * factor - 1e-9))))
        patch = [1, *self.patch] if len(self.patch) == 2 else self.patch
        counts = [-(-(high - low) // size) for (low, high), size in zip(sides, patch, strict=True)]
        found = []
        for cell in np.ndindex(*counts):
            data, mask = image, np.zeros(image.shape[1:], bool)
            bounds = [
                (low + i * (high - low) // n, low + (i + 1) * (high - low) // n)
                for i, n, (low, high) in zip(cell, counts, sides, strict=True)
            ]
            mask[tuple(slice(*bound) for bound in bounds)] = True
            for axis, (size, (low, high)) in enumerate(zip(patch, bounds, strict=True)):
                missing = max(0, size - image.shape[1 + axis])
                widths = [(0, 0)] * 3
                widths[axis] = (missing // 2, missing - missing // 2)
                data, mask = np.pad(data, [(0, 0), *widths]), np.pad(mask, widths)
                start = 0 if missing else min(max(low - (size - (high - low)) // 2, 0), image.shape[1 + axis] - size)
                data = data.take(range(start, start + size), 1 + axis)
                mask = mask.take(range(start, start + size), axis)
            flat = len(self.patch) == 2
            found.append((data[:, 0] if flat else data, mask[0] if flat else mask))
        return found

    def scores(self) -> tuple[np.ndarray, np.ndarray]:
        """Score and predicted foreground voxels of all candidates, in their order."""
        recipe = self.context.decided.recipe
        sampled = recipe.posterior == "mc_dropout"
        masks: list[torch.Tensor] = []
        if sampled:
            insert_dropout(self.network)
            masks = draw_masks(self.network, torch.zeros(1, 1, *self.patch), 3, self.context.rng("dropout"))
        scores, foreground = [], []
        for number in self.candidates():
            total, voxels, predicted = 0.0, 0, 0
            for data, mask in self.windows(number):
                probs_T_C = self._probabilities(data, masks)[:, :, mask].astype(np.float64)
                total = total + self._map(recipe.metric, probs_T_C).sum(-1)
                voxels += mask.sum()
                predicted += (probs_T_C.mean(0).argmax(0) > 0).sum()
            scores.append(np.sum(total / voxels * self._class_weights(recipe.metric)))
            foreground.append(predicted)
        return np.array(scores), np.array(foreground)

    def gradient(self, number: int, heads: int) -> dict[str, np.ndarray]:
        """Gradient of the mean log-likelihood of a region's own decision, summed over the first heads, by layer."""
        layers = {name: module for name, module in self.network.named_modules() if isinstance(module, CONVOLUTIONS)}
        windows = self.windows(number)
        voxels = sum(mask.sum() for _, mask in windows)
        self.network.zero_grad()
        self.network.decoder.deep_supervision = True
        for data, mask in windows:
            weight = torch.from_numpy(mask / voxels)[None].float()
            likelihood_of_heads(self.network(torch.from_numpy(data)[None])[:heads], weight).backward()
        self.network.decoder.deep_supervision = False
        return {
            name: layer.weight.grad.double().numpy() for name, layer in layers.items() if layer.weight.grad is not None
        }

    def _probabilities(self, data: np.ndarray, masks: list[torch.Tensor]) -> np.ndarray:
        batch = torch.zeros(micro_batch_size(self.patch), *data.shape)
        batch[0] = torch.from_numpy(data)
        samples = []
        with torch.inference_mode():
            for t in range(3 if masks else 1):
                for layer, mask_T_C in zip(dropout_layers(self.network), masks, strict=True):
                    layer.mask_C_xyz = mask_T_C[t]
                samples.append(torch.softmax(self.network(batch), 1)[0].numpy())
        return np.stack(samples)

    def _map(self, metric: str | None, probs_T_C: np.ndarray) -> np.ndarray:
        mean_C = probs_T_C.mean(0)
        if metric == "class_variance":
            return probs_T_C[:, 1:].var(0)
        if metric == "bald":
            return _entropy(mean_C, 0) - _entropy(probs_T_C, 1).mean(0)
        return _entropy(mean_C, 0)

    def _class_weights(self, metric: str | None) -> np.ndarray:
        if metric != "class_variance":
            return np.ones(1)
        volumes = [read_volume(self.context.composed_label(case)) for case in self.context.annotated_cases]
        counts = [sum((volume == label).sum() for volume in volumes) for label in range(1, self.ignore)]
        weights_C = 1 / np.maximum(counts, 1)
        return weights_C / weights_C.sum()


CONVOLUTIONS = (torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)


def _entropy(probs: np.ndarray, axis: int) -> np.ndarray:
    return -(probs * np.log(np.maximum(probs, 1e-300))).sum(axis)
