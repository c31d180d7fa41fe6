"""Per-sample gradients of each layer, from one forward and one backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from nnunet_al.errors import ModelError
from nnunet_al.scoring.correlation import LayerGradient, refuse_unsupported
from nnunet_al.scoring.dropout import evaluating
from nnunet_al.scoring.features import share_by_area
from nnunet_al.scoring.skips import constant_skips

Objective = Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]
"""Maps logits_B_C_xyz, weight_B_xyz and ``exclusive`` to L_B, where L_b depends on sample b only."""

Summary = TypeVar("Summary")


def summaries_of_gradients(
    network: nn.Module,
    data_B_C_xyz: torch.Tensor,
    weight_B_xyz: torch.Tensor,
    layers: Mapping[str, nn.Module],
    exclusive: bool,
    objective: Objective,
    summarise: Callable[[str, list[LayerGradient]], Summary],
    heads: int = 1,
) -> dict[str, Summary]:
    """Return ``summarise(name, uses)`` of each layer, in the order of `layers`; arguments as `weight_gradients`.

    The gradient of a layer is the sum over its uses in the forward pass: usually one, several where the network calls
    the layer more than once, none where the output does not depend on it. `summarise` is called as soon as the last use
    is known, so that inputs and output gradients are kept for one layer at a time.
    """
    for name, layer in layers.items():
        refuse_unsupported(name, layer)
    found: dict[str, Summary] = {}
    uses: dict[str, list[LayerGradient]] = {name: [] for name in layers}
    expected = dict.fromkeys(layers, 0)
    starts: list[torch.Tensor] = []

    def hook_for(name: str) -> Callable[[nn.Module, tuple[Any, ...], torch.Tensor], torch.Tensor]:
        def record(layer: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            inputs, version = args[0].detach(), args[0]._version
            expected[name] += 1

            def receive(output_gradient: torch.Tensor) -> None:
                if inputs._version != version:
                    raise ModelError(f"The input of layer {name} is overwritten after use: its gradient is unknown.")
                uses[name].append(LayerGradient(layer, inputs, output_gradient))
                if len(uses[name]) == expected[name]:
                    found[name] = summarise(name, uses.pop(name))

            if not output.requires_grad:
                # The graph starts at the output of the shallowest wanted layer: nothing upstream is recorded, and the
                # gradient with respect to that layer's input is not computed.
                starts.append(output.detach().requires_grad_())
                output = starts[-1].clone()  # an in-place activation may overwrite the copy, but not the leaf itself
            # The hook gets the gradient of the present value, also where an in-place activation changes it later.
            output.register_hook(receive)
            return output

        return record

    handles = [layer.register_forward_hook(hook_for(name)) for name, layer in layers.items()]
    device = data_B_C_xyz.device.type
    # older versions of torch have no autocast on MPS, so there is none to turn off
    full_precision = nullcontext() if device == "mps" else torch.autocast(device, enabled=False)
    encoder = set(getattr(network, "encoder", nn.Identity()).modules())
    skips = nullcontext() if encoder.intersection(layers.values()) else constant_skips(network)
    try:
        with (
            evaluating(network),
            _frozen(network),
            _returning(network, heads),
            skips,
            torch.enable_grad(),
            full_precision,
        ):
            outputs = network(data_B_C_xyz.detach())
            outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs[:heads]
            total = sum(objective(head, _weight_of(head, weight_B_xyz), exclusive).sum() for head in outputs)
            if total.requires_grad:
                torch.autograd.grad(total, starts, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    for name in list(uses):  # layers of which some use does not reach the output
        found[name] = summarise(name, uses.pop(name))
    return {name: found[name] for name in layers}


def _weight_of(logits_B_C_xyz: torch.Tensor, weight_B_xyz: torch.Tensor) -> torch.Tensor:
    """Return the weights on a head's grid; their sum stays, so that L of a coarse head is a mean over the region."""
    grid = logits_B_C_xyz.shape[2:]
    return weight_B_xyz if weight_B_xyz.shape[1:] == grid else share_by_area(weight_B_xyz, grid)


@contextmanager
def _returning(network: nn.Module, heads: int) -> Iterator[None]:
    """Let the decoder return its heads, from full resolution down, if more than the first is wanted."""
    decoder = getattr(network, "decoder", None)
    if heads == 1 or decoder is None or not hasattr(decoder, "deep_supervision"):
        yield
        return
    before, decoder.deep_supervision = decoder.deep_supervision, True
    try:
        yield
    finally:
        decoder.deep_supervision = before


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Turn off the parameters' own gradients, which would be sums over the batch that nobody needs."""
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
