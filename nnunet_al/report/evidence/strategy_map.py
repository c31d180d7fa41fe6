"""The strategy's own voxel map of a region, from the very windows in which the region was scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nnunet_al.nnunet.model import Plan
from nnunet_al.nnunet.pool_scoring import Measure
from nnunet_al.pool.boxes import Box, shift, to_slices
from nnunet_al.pool.geometry import CaseGeometry
from nnunet_al.pool.windows import Window, read_window, windows_of
from nnunet_al.report.evidence.raw_slices import network_slice, on_raw_slice
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.posterior import make_sampler
from nnunet_al.rounds.round_model import load_round_model
from nnunet_al.rounds.stages.score import annotated_voxels
from nnunet_al.scoring.fast_network import exact_convolutions
from nnunet_al.scoring.posterior import micro_batch_size, pad_batch
from nnunet_al.scoring.reductions import class_weights, make_reduction
from nnunet_al.scoring.samplers import Sampler
from nnunet_al.strategies.recipe import Recipe
from nnunet_al.strategies.registry import voxel_map


def is_plain_entropy(recipe: Recipe) -> bool:
    """Tell whether a strategy's map is the entropy of one pass, which the pictures of all strategies have."""
    return (recipe.metric, recipe.posterior) == ("entropy", "deterministic")


@dataclass(frozen=True)
class StrategyMap:
    """The sampler and the measure of a strategy, with the weight of each class where the map has classes."""

    name: str
    sampler: Sampler
    measure: Measure
    weights: np.ndarray | None
    plan: Plan
    device: torch.device

    @classmethod
    def of(cls, context: RoundContext) -> StrategyMap | None:
        """Return the map of a round's strategy; None where it has no metric, or the model predicts one number itself.

        Raises ModelError if a model that it needs is missing.
        """
        recipe = context.decided.recipe
        metric = recipe.metric
        if metric is None or voxel_map(metric) is None:
            return None
        model = load_round_model(context, context.checkpoint(context.round))
        reduction = make_reduction(recipe.reduction or "mean", recipe.parameters, context.configuration["spacing"])
        measure = Measure(voxel_map(metric), reduction, metric)
        weights = class_weights(annotated_voxels(context)) if reduction.per_class else None
        return cls(metric, make_sampler(context, *model), measure, weights, model[0], model[2])

    def values(
        self, image_C_xyz: np.ndarray, geometry: CaseGeometry, raw_box: Box, index: int | None = None
    ) -> tuple[np.ndarray, tuple[int, ...]]:
        """Return the map over a region, float32, and its first network voxel.

        The mean of the map over a region is the score of a strategy that averages. Classes are summed with their
        weights. NaN where no sample sees a voxel (test-time augmentation) and, with ``index``, outside this slice along
        the network's first axis: then only the windows are predicted that hold it.
        """
        box = geometry.to_network(raw_box)
        windows = windows_of(box, self.plan.patch_size, geometry.network_shape)
        if index is not None:
            windows = [window for window in windows if window.cell[0][0] <= index < window.cell[0][1]]
        map_xyz = np.full([high - low for low, high in box], np.nan, np.float32)
        size = micro_batch_size(self.plan.patch_size)
        with exact_convolutions():
            for first in range(0, len(windows), size):
                some = windows[first : first + size]
                for window, values_xyz in zip(some, self._of_windows(image_C_xyz, some, size), strict=False):
                    own = to_slices(shift(window.cell, [-start for start in window.start]))
                    map_xyz[to_slices(shift(window.cell, [-low for low, _ in box]))] = values_xyz[own]
        if index is not None:
            map_xyz[np.arange(len(map_xyz)) != index - box[0][0]] = np.nan
        return map_xyz, tuple(low for low, _ in box)

    def on_raw_slice(self, image_C_xyz: np.ndarray, geometry: CaseGeometry, raw_box: Box, index: int) -> np.ndarray:
        """Return the map on a slice of the raw image (y, x), NaN outside the region; voxels take the nearest value."""
        number = network_slice(geometry, index)
        map_xyz, start = self.values(image_C_xyz, geometry, raw_box, -1 if number is None else number)
        return _on_raw_slice(map_xyz, start, geometry, raw_box, index)

    def on_raw_image(self, image_C_xyz: np.ndarray, geometry: CaseGeometry, raw_box: Box) -> np.ndarray:
        """Return the map on the grid of the raw image (z, y, x), float32, NaN outside the region."""
        map_xyz, start = self.values(image_C_xyz, geometry, raw_box)
        across = geometry.transpose_forward[0]
        volume_xyz = np.full(geometry.raw_shape, np.nan, np.float32)
        for index in range(*raw_box[across]):
            np.moveaxis(volume_xyz, across, 0)[index] = _on_raw_slice(map_xyz, start, geometry, raw_box, index)
        return volume_xyz

    def _of_windows(self, image_C_xyz: np.ndarray, windows: list[Window], size: int) -> np.ndarray:
        flat = len(self.plan.patch_size) == 2
        data_B_C_xyz = torch.from_numpy(np.stack([read_window(image_C_xyz, window) for window in windows]))
        data_B_C_xyz = pad_batch(data_B_C_xyz.squeeze(2) if flat else data_B_C_xyz, size).to(self.device)
        samples = self.sampler(data_B_C_xyz)
        values = self.measure.values(samples.probs_T_B_C_xyz, self.plan.exclusive).float()
        if self.weights is not None:
            weights_F = torch.from_numpy(self.weights).to(values)
            values = (values * weights_F.view(-1, *[1] * (values.ndim - 2))).sum(1)
        if samples.visible_B_xyz is not None:
            values = torch.where(samples.visible_B_xyz, values, torch.nan)
        values_B_xyz: np.ndarray = values.cpu().numpy()
        return values_B_xyz[:, None] if flat else values_B_xyz


def _on_raw_slice(
    map_xyz: np.ndarray, start: tuple[int, ...], geometry: CaseGeometry, raw_box: Box, index: int
) -> np.ndarray:
    number = network_slice(geometry, index)
    plane_yx = np.full(geometry.network_shape[1:], np.nan, np.float32)
    if number is not None and 0 <= number - start[0] < len(map_xyz):
        top, left = start[1:]
        height, width = map_xyz.shape[1:]
        plane_yx[top : top + height, left : left + width] = map_xyz[number - start[0]]
    raw_yx = on_raw_slice(plane_yx[None], geometry, index, number or 0, order=0)
    # a region's voxels of the network reach beyond its box, by less than one of them
    inside = tuple(slice(*raw_box[axis]) for axis in range(3) if axis != geometry.transpose_forward[0])
    cut_yx = np.full_like(raw_yx, np.nan)
    cut_yx[inside] = raw_yx[inside]
    return cut_yx
