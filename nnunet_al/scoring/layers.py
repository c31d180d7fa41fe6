"""The convolutions of a network whose weight gradients are used, by name."""

from __future__ import annotations

from torch import nn

from nnunet_al.errors import ModelError
from nnunet_al.scoring.correlation import CONVOLUTIONS, TRANSPOSED

_SIDE_BRANCHES = {"skip", "squeeze_excitation"}


def convolutions(network: nn.Module) -> dict[str, nn.Module]:
    """Return the (transposed) 2d and 3d convolutions by name, sorted by name; one registered twice counts once."""
    found = {name: module for name, module in network.named_modules() if isinstance(module, CONVOLUTIONS)}
    return dict(sorted(found.items()))


def decoder_convolutions(network: nn.Module) -> dict[str, nn.Module]:
    """Return the convolutions of ``network.decoder``, transposed ones and output heads included, by name.

    Raises ModelError if the network has no ``decoder`` with convolutions.
    """
    # nnU-Net registers the encoder inside the decoder, too
    encoder = set(getattr(network, "encoder", nn.Identity()).modules())
    inside = set(getattr(network, "decoder", nn.Identity()).modules()) - encoder
    found = {name: module for name, module in convolutions(network).items() if module in inside}
    if not found:
        raise ModelError(f"{type(network).__name__} has no decoder with convolutions: use -set layers=all.")
    return found


def number_of_heads(network: nn.Module, heads: str, trained: int | None) -> int:
    """Return the number of outputs, from full resolution down, that ``heads`` (full, trained or all) names.

    ``trained`` is the number that the training gave a weight in its loss, if known; nnU-Net gives none to the lowest
    one, except where it is the only one. Networks without ``decoder.deep_supervision`` have one output.
    """
    decoder = getattr(network, "decoder", None)
    if heads == "full" or decoder is None or not hasattr(decoder, "deep_supervision"):
        return 1
    every = len(decoder.seg_layers)
    return every if heads == "all" else min(every, trained or max(1, every - 1))


def bottleneck_convolution(network: nn.Module) -> dict[str, nn.Module]:
    """Return the last convolution of the encoder, ``network.encoder.stages[-1]``, as {name: module}.

    Projections in residual skips and squeeze-and-excitation are side branches and do not count.

    Raises ModelError if the network has no ``encoder.stages`` or no convolution there.
    """
    return _last_convolution(network, "encoder")


def decoder_convolution(network: nn.Module) -> dict[str, nn.Module]:
    """Return the last convolution before the output head, in ``network.decoder.stages[-1]``, as {name: module}.

    BADGE uses its gradients (USIM, appendix C). Output heads, transposed convolutions and side branches (projections in
    residual skips, squeeze-and-excitation) do not count.

    Raises ModelError if the network has no ``decoder.stages`` or no convolution there.
    """
    return _last_convolution(network, "decoder")


def _last_convolution(network: nn.Module, part: str) -> dict[str, nn.Module]:
    try:
        stage = getattr(network, part).stages[-1]
    except (AttributeError, TypeError, IndexError):
        stage = nn.Identity()
    inside = [
        module
        for name, module in stage.named_modules()
        if isinstance(module, CONVOLUTIONS)
        and not isinstance(module, TRANSPOSED)
        and not _SIDE_BRANCHES.intersection(name.split("."))
    ]
    if not inside:
        raise ModelError(
            f"{type(network).__name__} has no convolution in {part}.stages[-1] to take gradients from: "
            "choose a strategy that needs no gradients or another network."
        )
    return {name: module for name, module in convolutions(network).items() if module is inside[-1]}
