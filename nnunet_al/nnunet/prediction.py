"""Predict whole cases from preprocessed images with nnU-Net's sliding window, several windows per batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window

from nnunet_al.errors import ModelError
from nnunet_al.nnunet.model import Plan
from nnunet_al.scoring.posterior import micro_batch_size


def sliding_window_logits(
    network: torch.nn.Module, plan: Plan, data_C_xyz: np.ndarray, device: torch.device, mirror_axes: Sequence[int] = ()
) -> torch.Tensor:
    """Return the logits (heads, x, y, z) of a preprocessed case on the CPU, float16.

    With ``mirror_axes``, spatial axes of a window from 0, the logits are the mean over all mirrored windows, as in
    nnU-Net's test-time augmentation: 4 passes with two axes, 8 with three. Windows, Gaussian weights, padding and
    precision are nnU-Net's (tile step 0.5, sums in float16, in its order). nnU-Net predicts the windows one by one,
    this function in batches; convolutions then differ in the last digits, so a voxel with two almost equal logits may
    get the other class.

    Raises ModelError if the logits are not finite in float16.
    """
    padded_C_xyz, unpad = pad_nd_image(
        torch.from_numpy(np.ascontiguousarray(data_C_xyz)), plan.patch_size, "constant", {"value": 0}, True, None
    )
    slicers = _slicers(tuple(padded_C_xyz.shape[1:]), plan.patch_size)
    gaussian = compute_gaussian(plan.patch_size, sigma_scale=1.0 / 8, value_scaling_factor=10, device=device)
    logits = torch.zeros((plan.labels.num_segmentation_heads, *padded_C_xyz.shape[1:]), dtype=torch.half)
    weights = torch.zeros(padded_C_xyz.shape[1:], dtype=torch.half)
    gaussian_on_cpu = gaussian.cpu()
    batch = micro_batch_size(plan.patch_size)
    with torch.inference_mode():
        for first in range(0, len(slicers), batch):
            some = slicers[first : first + batch]
            windows = torch.stack([padded_C_xyz[slicer] for slicer in some]).to(device)
            with torch.autocast(device.type, enabled=device.type == "cuda"):
                output = _mirrored(network, windows, mirror_axes)
            weighted = (output * gaussian).cpu()
            for slicer, window in zip(some, weighted, strict=True):
                logits[slicer] += window
                weights[slicer[1:]] += gaussian_on_cpu
    logits /= weights
    if not torch.isfinite(logits).all():
        raise ModelError(
            "The model's outputs are not finite, or too large for nnU-Net's sums in float16: its training diverged, so "
            "train it with other settings."
        )
    return logits[(slice(None), *unpad[1:])]


def predict_segmentation(
    network: torch.nn.Module,
    plan: Plan,
    data_C_xyz: np.ndarray,
    properties: dict,
    device: torch.device,
    mirror_axes: Sequence[int] = (),
) -> np.ndarray:
    """Return the segmentation (z, y, x) of a preprocessed case in its raw geometry, as nnU-Net exports it."""
    logits = sliding_window_logits(network, plan, data_C_xyz, device, mirror_axes)
    segmentation = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, plan.plans, plan.configuration, plan.labels, properties, num_threads_torch=torch.get_num_threads()
    )
    return np.asarray(segmentation)


def _mirrored(network: torch.nn.Module, x_B_C_xyz: torch.Tensor, mirror_axes: Sequence[int]) -> torch.Tensor:
    logits_B_C_xyz: torch.Tensor = network(x_B_C_xyz)
    axes = [axis + 2 for axis in mirror_axes]
    flips = [some for count in range(1, len(axes) + 1) for some in combinations(axes, count)]
    for some in flips:
        logits_B_C_xyz = logits_B_C_xyz + torch.flip(network(torch.flip(x_B_C_xyz, some)), some)
    return logits_B_C_xyz / (len(flips) + 1) if flips else logits_B_C_xyz


def _slicers(shape: tuple[int, ...], patch_size: tuple[int, ...]) -> list[tuple]:
    """Return nnU-Net's windows; in 2d one set per slice along the first axis, without that axis."""
    steps = compute_steps_for_sliding_window(shape[-len(patch_size) :], patch_size, 0.5)
    windows = [
        tuple(slice(start, start + length) for start, length in zip(starts, patch_size, strict=True))
        for starts in product(*steps)
    ]
    if len(patch_size) == len(shape):
        return [(slice(None), *window) for window in windows]
    return [(slice(None), index, *window) for index in range(shape[0]) for window in windows]
