"""Posterior samples of a batch of windows, and micro-batches of a fixed size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import nn

from nnunet_al.scoring.dropout import evaluating, sub_network
from nnunet_al.scoring.fast_network import as_weights
from nnunet_al.scoring.prefix import shared_prefix
from nnunet_al.scoring.skips import shared_skips
from nnunet_al.scoring.tensors import full_resolution

_MICRO_BATCH_VOXELS = 2**18
_MICRO_BATCH_LARGEST = 64


def sampled_probabilities(
    network: nn.Module, data_B_C_xyz: torch.Tensor, masks: Sequence[torch.Tensor], exclusive: bool = True
) -> torch.Tensor:
    """Return probs_T_B_C_xyz of the T sub-networks of `dropout.draw_masks`, float32, on the data's device.

    Evaluation mode apart from the masks, so a sample's result depends neither on the batch nor on earlier calls.

    Raises ModelError if the network has no dropout.
    """
    passes = len(masks[0]) if masks else 1  # without masks `sub_network` raises
    data_B_C_xyz = as_weights(network, data_B_C_xyz)  # once, because the prefix recognises its input by identity
    samples = []
    with shared_prefix(network), shared_skips(network):
        for t in range(passes):
            with sub_network(network, masks, t):
                samples.append(_probabilities(network, data_B_C_xyz, exclusive))
    return torch.stack(samples)


def deterministic_probabilities(network: nn.Module, data_B_C_xyz: torch.Tensor, exclusive: bool = True) -> torch.Tensor:
    """Return probs_T_B_C_xyz with T = 1, float32: the network without dropout."""
    return _probabilities(network, data_B_C_xyz, exclusive).unsqueeze(0)


def _probabilities(network: nn.Module, data_B_C_xyz: torch.Tensor, exclusive: bool) -> torch.Tensor:
    with evaluating(network), torch.inference_mode():
        logits = full_resolution(network(as_weights(network, data_B_C_xyz))).float()
        return head_probabilities(logits, exclusive)


def head_probabilities(logits_B_C_xyz: torch.Tensor, exclusive: bool) -> torch.Tensor:
    """Return the probabilities (B, C, xyz) of logits: softmax over exclusive classes, else a sigmoid for each head.

    Not ``torch.softmax`` and ``torch.sigmoid``: on a CPU they use other instructions for the last voxels of each
    thread, so that a voxel's last digit depends on its position in the batch and on the number of threads.
    """
    if not exclusive:
        return torch.exp(F.logsigmoid(logits_B_C_xyz))
    powers_B_C_xyz = torch.exp(logits_B_C_xyz - logits_B_C_xyz.detach().amax(1, keepdim=True))
    return powers_B_C_xyz / powers_B_C_xyz.sum(1, keepdim=True)


def micro_batch_size(patch_shape: Sequence[int]) -> int:
    """Return the largest power of two M, 1 <= M <= 64, with M · voxels of the patch <= 2^18 (or 1).

    It depends on the patch only: float32 results differ in the last digits between batch sizes, so a size that depended
    on the device or the pool would change the selected regions.
    """
    fitting = max(1, _MICRO_BATCH_VOXELS // math.prod(patch_shape))
    return min(_MICRO_BATCH_LARGEST, 2 ** (fitting.bit_length() - 1))


def in_microbatches(
    function: Callable[..., torch.Tensor], size: int, *tensors_N: torch.Tensor, batch_axis: int = 0
) -> torch.Tensor:
    """Call `function` on batches of exactly `size` samples and concatenate the results along `batch_axis`.

    The last batch is padded with zeros and the results of the padding are removed.

    Parameters
    ----------
    function
        takes one tensor (size, ...) for each of `tensors_N` and returns one with `size` along `batch_axis`.
    size
        number of samples in each call.
    tensors_N
        one or more tensors (N, ...), N >= 1.
    batch_axis
        the samples' axis in the result; 1 for probs_T_B_C_xyz.
    """
    (total,) = {len(tensor_N) for tensor_N in tensors_N}
    assert total > 0, "no sample to compute"
    results = []
    for start in range(0, total, size):
        real = min(size, total - start)
        result = function(*(pad_batch(tensor_N[start : start + real], size) for tensor_N in tensors_N))
        results.append(result.narrow(batch_axis, 0, real))
    return torch.cat(results, dim=batch_axis)


def pad_batch(tensor_B: torch.Tensor, size: int) -> torch.Tensor:
    """Return the batch padded with zeros (False) to `size` samples."""
    missing = size - len(tensor_B)
    assert missing >= 0, (len(tensor_B), size)
    if missing == 0:
        return tensor_B
    return torch.cat([tensor_B, tensor_B.new_zeros(missing, *tensor_B.shape[1:])])
