"""One forward and one backward pass that hands out each sample's own gradient of each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from nnunet_al.errors import ModelError
from nnunet_al.scoring.correlation import LayerGradient, refuse_unsupported
from nnunet_al.scoring.dropout import evaluating
from nnunet_al.scoring.tensors import full_resolution

Objective = Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]
"""From logits_B_C_xyz, weight_B_xyz and ``exclusive`` to L_B, where L_b depends on sample b alone."""

Summary = TypeVar("Summary")


def summaries_of_gradients(
    network: nn.Module,
    data_B_C_xyz: torch.Tensor,
    weight_B_xyz: torch.Tensor,
    layers: Mapping[str, nn.Module],
    exclusive: bool,
    objective: Objective,
    summarise: Callable[[str, list[LayerGradient]], Summary],
) -> dict[str, Summary]:
    """Return ``summarise(name, uses)`` of each layer, in the order of `layers`; arguments as `weight_gradients`.

    The layer's gradient is the sum over its uses: one as a rule, several where the network runs through it more than
    once, none where the output does not depend on it. It is asked for as soon as it is known, so that what it is made
    of is held for one layer at a time (for a layer with several uses until the last of them is known).
    """
    for name, layer in layers.items():
        refuse_unsupported(name, layer)
    found: dict[str, Summary] = {}
    uses: dict[str, list[LayerGradient]] = {name: [] for name in layers}
    expected = dict.fromkeys(layers, 0)
    starts: list[torch.Tensor] = []

    def listen(name: str) -> Callable[[nn.Module, tuple[Any, ...], torch.Tensor], torch.Tensor]:
        def tap(layer: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            inputs, version = args[0].detach(), args[0]._version
            expected[name] += 1

            def receive(output_gradient: torch.Tensor) -> None:
                if inputs._version != version:
                    raise ModelError(f"The input of layer {name} is overwritten after use: its gradient is unknown.")
                uses[name].append(LayerGradient(layer, inputs, output_gradient))
                if len(uses[name]) == expected[name]:
                    found[name] = summarise(name, uses.pop(name))

            if not output.requires_grad:
                # The graph starts behind the shallowest of the wanted layers: nothing upstream is recorded, and nobody
                # computes what the gradient of that layer's input would be.
                starts.append(output.detach().requires_grad_())
                output = starts[-1].clone()  # which an activation may overwrite, as it may not the start itself
            # A hook sees the gradient of the value as it is now, also where an in-place activation changes it later.
            output.register_hook(receive)
            return output

        return tap

    handles = [layer.register_forward_hook(listen(name)) for name, layer in layers.items()]
    device = data_B_C_xyz.device.type
    # older versions of torch know no autocast on MPS, so there is none to turn off
    full_precision = nullcontext() if device == "mps" else torch.autocast(device, enabled=False)
    try:
        with evaluating(network), _frozen(network), torch.enable_grad(), full_precision:
            logits = full_resolution(network(data_B_C_xyz.detach()))
            total = objective(logits, weight_B_xyz, exclusive).sum()
            if total.requires_grad:
                torch.autograd.grad(total, starts, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    for name in list(uses):  # what did not come to the output as often as it was used
        found[name] = summarise(name, uses.pop(name))
    return {name: found[name] for name in layers}


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Let no parameter ask for a gradient: the batch's sums of them would be computed for nothing."""
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
