"""Dropout inserted into the activations of an existing network, without changes to its state dict.

The T sub-networks of Monte Carlo dropout (Gal and Ghahramani, ICML 2016) are drawn once, as masks of channels or of
single elements, and applied to every batch: all regions are scored by the same sub-networks, independent of the batch
size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from nnunet_al.errors import ModelError

_ACTIVATIONS = (nn.LeakyReLU, nn.ReLU, nn.GELU, nn.SiLU, nn.ELU)


class DropoutActivation(nn.Module):
    """A stock activation followed by dropout of channels or elements; adds nothing to the state dict.

    * ``mask_C_xyz`` set: ``activation(x) * mask / (1 - p)``, one mask for all samples, in training and evaluation mode;
      (C,) for channels, (C, xyz) for elements;
    * else in training mode: fresh channels or elements for each sample, from torch's global generator;
    * else: the activation alone.

    Inputs and outputs are (B, C, xyz) with any number of spatial axes.
    """

    def __init__(self, activation: nn.Module, p: float, of: str = "channels") -> None:
        """Wrap `activation`; `p` is the probability that one of the channels (or elements) is dropped, 0 <= p < 1."""
        super().__init__()
        assert 0.0 <= p < 1.0, p
        self.activation = activation
        self.p = p
        self.of = of
        self.mask_C_xyz: torch.Tensor | None = None  # a plain attribute: a buffer would be part of the state dict

    def forward(self, x_B_C_xyz: torch.Tensor) -> torch.Tensor:
        """Apply the activation and the dropout of the current mode."""
        y_B_C_xyz = self.activation(x_B_C_xyz)
        if self.mask_C_xyz is not None:
            scale_C_xyz = self.mask_C_xyz.to(y_B_C_xyz) / (1.0 - self.p)
            if self.mask_C_xyz.ndim == 1:
                scale_C_xyz = scale_C_xyz.reshape(-1, *[1] * (y_B_C_xyz.ndim - 2))
            # without a graph nothing else uses the activation's output, so it can be changed in place
            return y_B_C_xyz * scale_C_xyz if torch.is_grad_enabled() else y_B_C_xyz.mul_(scale_C_xyz)
        if self.training:
            drop = torch.dropout if self.of == "elements" else torch.feature_dropout
            return drop(y_B_C_xyz, self.p, True)
        return y_B_C_xyz

    def extra_repr(self) -> str:
        """Show the probability in the network's printout."""
        return f"p={self.p}, of={self.of}"


def insert_dropout(
    network: nn.Module, p: float = 0.1, where: str = "decoder", of: str = "channels"
) -> list[DropoutActivation]:
    """Replace activations in memory by dropout activations; weights and state dict keys do not change.

    ``"decoder"`` means the bottleneck (``network.encoder.stages[-1]``) and ``network.decoder.stages``; ``"last"`` the
    last two of these stages, so that samples share all that comes before; ``"all"`` every activation. An activation
    that is registered in several places becomes one wrapper in all of them. Dropout activations already inside `where`
    are kept and get the new `p` and `of`, so a second call is harmless.

    Parameters
    ----------
    network
        any network whose activations are modules; it is changed.
    p
        probability that a channel or element is dropped, 0 <= p < 1.
    where
        part of the network that gets dropout, "decoder", "last" or "all".
    of
        "channels", or "elements": each number of the activation on its own, as the code of USIM does.

    Returns
    -------
    list of DropoutActivation
        in the network's order.

    Raises ModelError if `p` or `where` is not valid, the part does not exist, an activation has weights (PReLU: its
    state dict keys would change), or there is no activation to replace.
    """
    if not 0.0 <= p < 1.0:
        raise ModelError(f"The dropout probability must be at least 0 and less than 1, not {p}: choose another one.")
    wrappers: dict[int, DropoutActivation] = {}
    for part in _parts(network, where):
        for module in part.modules():  # yields a wrapper before the activation inside it
            if isinstance(module, nn.PReLU):
                raise ModelError("Dropout cannot be put into PReLU, whose weights would change their names: use ReLU.")
            if isinstance(module, DropoutActivation):
                wrappers[id(module.activation)] = module
            elif isinstance(module, _ACTIVATIONS) and id(module) not in wrappers:
                wrappers[id(module)] = DropoutActivation(module, p)
    if not wrappers:
        raise ModelError(
            f"There is no activation in '{where}' that could hold dropout, and a network without dropout cannot be "
            "sampled: choose a strategy that needs no samples or another network."
        )
    for wrapper in wrappers.values():
        wrapper.p, wrapper.of = p, of
        wrapper.train(wrapper.activation.training)
    for path, module in list(network.named_modules(remove_duplicate=False)):
        parent_path, _, name = path.rpartition(".")
        parent = network.get_submodule(parent_path)
        if id(module) in wrappers and not isinstance(parent, DropoutActivation):
            setattr(parent, name, wrappers[id(module)])
    return list(wrappers.values())


def _parts(network: nn.Module, where: str) -> list[nn.Module]:
    if where == "all":
        return [network]
    if where not in {"decoder", "last"}:
        raise ModelError(f"Dropout can be put into 'decoder', 'last' or 'all', not into '{where}': choose one of them.")
    try:
        if where == "last":
            return list(network.decoder.stages[-2:])
        return [network.encoder.stages[-1], network.decoder.stages]
    except (AttributeError, TypeError):
        raise ModelError(
            f"{type(network).__name__} has no encoder.stages and decoder.stages to put dropout into: use 'all'."
        ) from None


def holds_dropout(module: nn.Module) -> bool:
    """Whether there is a dropout activation in a part of a network."""
    return any(isinstance(part, DropoutActivation) for part in module.modules())


def dropout_layers(network: nn.Module) -> list[DropoutActivation]:
    """Return the dropout activations of a network, each once, in the network's order."""
    return [module for module in network.modules() if isinstance(module, DropoutActivation)]


def draw_masks(
    network: nn.Module, example_input: torch.Tensor, passes: int, rng: np.random.Generator
) -> list[torch.Tensor]:
    """Draw T sub-networks: for each dropout layer a bool mask (T, C), True = the channel is kept, P(keep) = 1 - p.

    For dropout of elements the mask is (T, C, xyz), a byte for each sample and element. The sizes come from one forward
    pass of `example_input` (1, C, xyz); its values do not matter, and only for elements its shape does: that of all
    windows. Where all channels of a layer would be dropped, one drawn at random is kept: an all-zero layer carries no
    information about the input.

    Parameters
    ----------
    network
        a network with dropout layers.
    example_input
        a valid input on the network's device.
    passes
        T, the number of sub-networks.
    rng
        the generator of this purpose; the draw depends on nothing else.

    Returns
    -------
    list of torch.Tensor
        one mask for each layer, in the order of `dropout_layers`, on the CPU.

    Raises ModelError if the network has no dropout, or a layer is used with different numbers of channels or elements.
    """
    layers = _layers_or_refuse(network)
    shapes: list[set[tuple[int, ...]]] = [set() for _ in layers]

    def note(index: int) -> object:
        end = None if layers[index].of == "elements" else 2
        return layers[index].register_forward_hook(lambda _module, _args, out: shapes[index].add(out.shape[1:end]))

    hooks = [note(index) for index in range(len(layers))]
    try:
        with evaluating(network), torch.no_grad():
            network(example_input)
    finally:
        for hook in hooks:
            hook.remove()  # type: ignore[attr-defined]
    masks = []
    for layer, found in zip(layers, shapes, strict=True):
        if len(found) > 1:
            sizes = sorted(list(shape) if layer.of == "elements" else shape[0] for shape in found)
            raise ModelError(
                f"One activation of the network is used with {sizes} {layer.of}, so no mask fits it: give each place "
                "its own activation module."
            )
        shape = found.pop() if found else (0,)  # 0: never executed, so its mask is never read
        masks.append(torch.from_numpy(_kept(layer, shape, passes, rng)))
    return masks


def _kept(layer: DropoutActivation, shape: tuple[int, ...], passes: int, rng: np.random.Generator) -> np.ndarray:
    if layer.of == "elements":
        keep_T_C_xyz = np.empty((passes, *shape), bool)
        for keep_C_xyz in keep_T_C_xyz:  # one by one: the random numbers take four times the memory of the mask
            np.greater_equal(rng.random(shape, np.float32), layer.p, out=keep_C_xyz)
        return keep_T_C_xyz
    keep_T_C = rng.random((passes, *shape)) >= layer.p
    for keep_C in keep_T_C:
        if len(keep_C) and not keep_C.any():
            keep_C[rng.integers(len(keep_C))] = True
    return keep_T_C


def _layers_or_refuse(network: nn.Module) -> list[DropoutActivation]:
    layers = dropout_layers(network)
    if not layers:
        raise ModelError(
            "A network without dropout cannot be sampled: all its passes are equal and every uncertainty would be 0; "
            "put dropout into it or choose a strategy that needs no samples."
        )
    return layers


@contextmanager
def sub_network(network: nn.Module, masks: Sequence[torch.Tensor], t: int) -> Iterator[nn.Module]:
    """Turn the network into the t-th sub-network drawn by `draw_masks`, inside the ``with`` block.

    Raises ModelError if the network has no dropout.
    """
    layers = _layers_or_refuse(network)
    assert len(layers) == len(masks), (len(layers), len(masks))
    before = [layer.mask_C_xyz for layer in layers]
    try:
        for layer, mask_T_C_xyz in zip(layers, masks, strict=True):
            layer.mask_C_xyz = mask_T_C_xyz[t]
        yield network
    finally:
        for layer, mask_C_xyz in zip(layers, before, strict=True):
            layer.mask_C_xyz = mask_C_xyz


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Put the network into evaluation mode inside the ``with`` block, then restore each module's mode."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield network
    finally:
        for module, mode in modes:
            module.training = mode
