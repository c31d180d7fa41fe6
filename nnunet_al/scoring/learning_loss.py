"""Learning loss (Yoo and Kweon, CVPR 2019): a small module reads the network's features and predicts a window's loss.

The features are those of the decoder or, as in the code of Gaillochet et al. (2023), of encoder and bottleneck. Only
the ranking of the losses is learned, because their scale falls while the network trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import nn

from nnunet_al.errors import ModelError
from nnunet_al.scoring.dropout import evaluating
from nnunet_al.scoring.fast_network import as_weights
from nnunet_al.scoring.posterior import head_probabilities
from nnunet_al.scoring.sample_products import aligned, sample_products
from nnunet_al.scoring.samplers import Samples
from nnunet_al.scoring.tensors import at_least_float32, full_resolution


class LossModule(nn.Module):
    """Predict one number for each sample from feature maps of several depths (Yoo and Kweon, figure 2b).

    Each map: global average pooling -> Linear(C_i, width) -> ReLU; all concatenated -> Linear -> one number. The number
    has no unit and may be negative: trained by `ranking_loss`, it is larger where the loss is larger.
    """

    def __init__(self, channels: Sequence[int], width: int = 128, part: str = "decoder") -> None:
        """Build the module for maps with these `channels`, with random weights from torch.

        `part`, the "decoder" or "encoder", is the part of the network that the maps come from (see `stage_channels`).
        """
        super().__init__()
        self.part = part
        assert len(channels) > 0, "a module without feature maps would predict a constant"
        self.branches = nn.ModuleList(nn.Linear(count, width) for count in channels)
        self.head = nn.Linear(width * len(channels), 1)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return predicted_B from maps (B, C_i, xyz), in the order of `channels`; half precision is read as float32."""
        pooled = [at_least_float32(map_B_C_xyz).flatten(2).mean(2) for map_B_C_xyz in features]
        branches = [F.relu(_linear(branch, map_B_C)) for branch, map_B_C in zip(self.branches, pooled, strict=True)]
        return _linear(self.head, torch.cat(branches, 1)).squeeze(1)


def _linear(layer: nn.Module, values_B_C: torch.Tensor) -> torch.Tensor:
    """Return ``layer(values)`` by one product per sample: in a joint product the last digits depend on the row."""
    weight_B_C_W = layer.weight.T.expand(len(values_B_C), *layer.weight.T.shape)
    return sample_products(aligned(values_B_C.unsqueeze(1)), weight_B_C_W).squeeze(1) + layer.bias


def ranking_loss(predicted_B: torch.Tensor, loss_B: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    """Mean over pairs (i, j) of max(0, margin - sign(l_i - l_j) · (predicted_i - predicted_j)), eq. 2 of the paper.

    Sample i is paired with sample i + floor(B / 2); the last sample of an odd batch is left out. Two equal losses have
    no order: such a pair costs the margin and has gradient 0. The losses l are constants for the gradient.

    Parameters
    ----------
    predicted_B
        output of a `LossModule`.
    loss_B
        the real loss of each sample, in any unit.
    margin
        smallest desired difference between the predictions of a pair, the paper's ξ; 0 in the code of Gaillochet et al.

    Returns
    -------
    torch.Tensor
        a scalar; 0, with gradient 0, where there is no pair.
    """
    assert predicted_B.shape == loss_B.shape, (predicted_B.shape, loss_B.shape)
    pairs = len(predicted_B) // 2
    if pairs == 0:
        return (predicted_B * 0.0).sum()
    order = torch.sign(loss_B.detach()[:pairs] - loss_B.detach()[pairs : 2 * pairs])
    difference = predicted_B[:pairs] - predicted_B[pairs : 2 * pairs]
    return F.relu(margin - order * difference).mean()


def stage_channels(network: nn.Module, part: str = "decoder") -> tuple[int, ...]:
    """Return the number of channels of each feature map of the ``decoder`` or ``encoder``, in the order of its stages.

    Those of the decoder begin with the deepest, those of the encoder with full resolution.

    Raises ModelError if the network has no such stages, or they do not name their ``output_channels``.
    """
    stages = _stages(network, part)
    try:
        if part == "encoder":
            return tuple(int(count) for count in network.encoder.output_channels)
        return tuple(int(stage.output_channels) for stage in stages)
    except (AttributeError, TypeError):
        raise _no_stages(network, part) from None


@contextmanager
def stage_features(network: nn.Module, part: str = "decoder") -> Iterator[list[torch.Tensor]]:
    """Collect the outputs of the stages of ``network.decoder`` or ``network.encoder`` inside the ``with`` block.

    The yielded list holds the maps (B, C_i, xyz) of the latest forward pass, in the order of the stages, with their
    graph and in the network's precision. The network must not be compiled, because hooks would not be called.

    Raises ModelError if the network has no such stages.
    """
    stages = _stages(network, part)
    features: list[torch.Tensor] = []

    def clear(_module: nn.Module, _args: tuple[Any, ...]) -> None:
        features.clear()

    def collect(_module: nn.Module, _args: tuple[Any, ...], output: torch.Tensor) -> None:
        features.append(output)

    hooks = [network.register_forward_pre_hook(clear)]
    hooks += [stage.register_forward_hook(collect) for stage in stages]
    try:
        yield features
    finally:
        for hook in hooks:
            hook.remove()


class LossSampler:
    """Probabilities of the network without dropout and the predicted losses of its windows, from one forward pass.

    The maps are pooled over the whole window, padding included, as they are in training.
    """

    def __init__(self, network: nn.Module, module: LossModule, exclusive: bool) -> None:
        """Store the uncompiled network, the loss module trained with it, and whether classes exclude each other."""
        self._network = network
        self._module = module
        self._exclusive = exclusive

    def __call__(self, data_B_C_xyz: torch.Tensor) -> Samples:
        """Return probs_T_B_C_xyz with T = 1, float32, and predicted_loss_B of windows (B, C, xyz).

        Evaluation mode, no graph. A window's prediction depends neither on its batch nor on earlier calls.

        Raises ModelError if the network has no stages that the module reads.
        """
        network, module = self._network, self._module
        tapped = stage_features(network, module.part)
        with evaluating(network), evaluating(module), torch.inference_mode(), tapped as features:
            logits_B_C_xyz = full_resolution(network(as_weights(network, data_B_C_xyz))).float()
            probs_B_C_xyz = head_probabilities(logits_B_C_xyz, self._exclusive)
            return Samples(probs_B_C_xyz.unsqueeze(0), predicted_loss_B=module(features))


def _stages(network: nn.Module, part: str) -> Sequence[nn.Module]:
    stages = getattr(getattr(network, part, None), "stages", None)
    if not isinstance(stages, (nn.ModuleList, nn.Sequential)) or not len(stages):
        raise _no_stages(network, part)
    return list(stages)


def _no_stages(network: nn.Module, part: str) -> ModelError:
    return ModelError(
        f"{type(network).__name__} has no {part}.stages whose features could predict a loss: "
        "choose another strategy than learning_loss or another network."
    )
