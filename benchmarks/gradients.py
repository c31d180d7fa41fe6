"""Gradients per region, compared with one ordinary backward pass and with the usual methods.

Ours are the embeddings of USIMF (d entries of all layers' weights, drawn by the Fisher information) and of USIMC (the
first d entries of the bottleneck), and the Fisher information itself, for one batch of windows. One backward pass, as
in training, gives the gradient of the batch's mean by all weights, but no gradient per region. The usual methods are a
loop over the regions with ``torch.autograd.grad`` at batch size 1, and ``torch.func.vmap(grad)`` over as many regions
at a time as fit into memory; both differentiate only by the required weights. These compare all convolutions and the
output of full resolution. The decoder and the trained heads (a round takes one head more) are compared with one forward
and one backward pass of the decoder alone, from features that cost nothing. The network is that of nnU-Net's plans
for the dataset, trained for one short round; with --quick it is small, untrained, and its input is noise.

Ours are checked against these methods in float64, and in float32 against autograd after the same forward pass. Float32
passes at other batch sizes differ in the last digits; where this changes the sign of an activation before its
LeakyReLU, the gradient of any method jumps. ``float32_other_forward`` gives the size of these deviations.
"""

from __future__ import annotations

import copy
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from measuring import Claim, Timing, alternate, make_parser, report
from torch import nn
from torch.func import functional_call, grad, vmap

from nnunet_al.allocation import keeping_memory
from nnunet_al.scoring.dropout import evaluating
from nnunet_al.scoring.fast_network import fast_network
from nnunet_al.scoring.features import share_by_area
from nnunet_al.scoring.fisher import sample_parameters
from nnunet_al.scoring.gradients import gradient_entries, log_likelihood, select_entries, visit_gradients
from nnunet_al.scoring.layers import bottleneck_convolution, convolutions, decoder_convolutions, number_of_heads
from nnunet_al.scoring.region_fisher import RegionFisher
from nnunet_al.scoring.tensors import full_resolution

DEVIATION = 1e-5
CHECKED = 4  # regions, because each costs a backward pass of the whole batch
FITTING_BYTES = 2**28  # of the gradients that vmap holds at a time

Entries = dict[str, np.ndarray]
Layers = Callable[[nn.Module], Mapping[str, nn.Module]]


@dataclass(frozen=True)
class Batch:
    """A network and one batch of regions, each of one window, with 1 / |V_r| on the voxels that count."""

    network: nn.Module
    data_B_C_xyz: torch.Tensor
    weight_B_xyz: torch.Tensor

    def __len__(self) -> int:
        return len(self.data_B_C_xyz)

    def to(self, kind: str | torch.dtype) -> Batch:
        """Return a copy on another device or in another precision."""
        network = copy.deepcopy(self.network).to(kind)
        return Batch(network, self.data_B_C_xyz.to(kind), self.weight_B_xyz.to(kind))

    def arranged(self) -> Batch:
        """Return a copy whose network has the memory layout of a round."""
        return Batch(fast_network(copy.deepcopy(self.network)), self.data_B_C_xyz, self.weight_B_xyz)

    @property
    def trained(self) -> int:
        """Number of heads that nnU-Net trains."""
        return number_of_heads(self.network, "trained", None)

    def fisher(self, wanted: Layers = convolutions, heads: int = 1) -> dict[str, torch.Tensor]:
        """Return the Fisher information of the regions, computed as in a round."""
        layers = wanted(self.network)
        diagonal = RegionFisher(layers, dict.fromkeys(range(len(self)), 1))
        visitor = diagonal.visitor(list(range(len(self))))
        visit_gradients(self.network, self.data_B_C_xyz, self.weight_B_xyz, layers, visitor, heads=heads)
        return diagonal.mean()

    def entries(self, entries: Entries, heads: int = 1) -> torch.Tensor:
        """Return the embeddings (B, d), computed as in a round."""
        return gradient_entries(self.network, self.data_B_C_xyz, self.weight_B_xyz, entries, heads=heads)

    def decoder_pass(self) -> Callable[[], dict[str, torch.Tensor]]:
        """Return a function that does a forward and a backward pass of the decoder: its weights' gradients (1, ...)."""
        decoder, layers = self.network.decoder, decoder_convolutions(self.network)
        weights = [layer.weight for layer in layers.values()]
        with evaluating(self.network), torch.no_grad():
            skips = self.network.encoder(self.data_B_C_xyz)

        def once() -> dict[str, torch.Tensor]:
            before, decoder.deep_supervision = decoder.deep_supervision, True
            with evaluating(self.network):
                heads = decoder(skips)[: self.trained]
            decoder.deep_supervision = before
            value = sum(log_likelihood(head, share_by_area(self.weight_B_xyz, head.shape[2:])).sum() for head in heads)
            found = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
            return {name: gradient[None] for name, gradient in zip(layers, found, strict=True)}

        return once

    def one_backward(self) -> None:
        """Do one forward and one backward pass of the whole batch."""
        with evaluating(self.network):
            logits = full_resolution(self.network(self.data_B_C_xyz))
            mean = log_likelihood(logits, self.weight_B_xyz).mean()
            torch.autograd.grad(mean, list(self.network.parameters()), allow_unused=True)

    def per_sample(self, layers: Mapping[str, nn.Module]) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the gradient of each region, (1, *weight.shape), by a loop at batch size 1."""
        weights = [layer.weight for layer in layers.values()]
        with evaluating(self.network):
            for data_1_C_xyz, weight_1_xyz in zip(self.data_B_C_xyz.split(1), self.weight_B_xyz.split(1), strict=True):
                value = log_likelihood(full_resolution(self.network(data_1_C_xyz)), weight_1_xyz).sum()
                found = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
                yield {name: gradient[None] for name, gradient in zip(layers, found, strict=True)}

    def per_sample_entries(self, entries: Entries) -> torch.Tensor:
        layers = {name: layer for name, layer in convolutions(self.network).items() if name in entries}
        return torch.cat([select_entries(gradients, entries) for gradients in self.per_sample(layers)])

    def same_forward_entries(self, entries: Entries, count: int) -> torch.Tensor:
        """Return the entries of the first regions, by one backward pass per region after one pass of the batch."""
        layers = {name: layer for name, layer in convolutions(self.network).items() if name in entries}
        weights = [layer.weight for layer in layers.values()]
        with evaluating(self.network):
            values_B = log_likelihood(full_resolution(self.network(self.data_B_C_xyz)), self.weight_B_xyz)
            found = [torch.autograd.grad(value, weights, retain_graph=True) for value in values_B[:count]]
        named = [{name: gradient[None] for name, gradient in zip(layers, some, strict=True)} for some in found]
        return torch.cat([select_entries(gradients, entries) for gradients in named])

    def per_sample_fisher(self) -> dict[str, torch.Tensor]:
        sums: dict[str, torch.Tensor] = {}
        for gradients in self.per_sample(convolutions(self.network)):
            for name, gradient in gradients.items():
                sums[name] = gradient[0].double().square() + sums.get(name, 0)
        return {name: total / len(self.data_B_C_xyz) for name, total in sums.items()}

    def torch_func_entries(self, entries: Entries) -> torch.Tensor:
        layers = {name: layer for name, layer in convolutions(self.network).items() if name in entries}
        wanted = {f"{name}.weight": layer.weight.detach() for name, layer in layers.items()}
        others = {name: value.detach() for name, value in self.network.named_parameters() if name not in wanted}

        def single(values: dict[str, torch.Tensor], data: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            # tied weights are one module under two names; without this torch leaves the substituted values in it
            output = functional_call(self.network, {**others, **values}, (data[None],), tie_weights=False)
            logits = full_resolution(output)
            return log_likelihood(logits, weight[None])[0]

        size = max(1, FITTING_BYTES // sum(value.nbytes for value in wanted.values()))
        picked = []
        with evaluating(self.network):
            for data, weight in zip(self.data_B_C_xyz.split(size), self.weight_B_xyz.split(size), strict=True):
                found = vmap(grad(single), in_dims=(None, 0, 0))(wanted, data, weight)
                picked.append(select_entries({name: found[f"{name}.weight"] for name in layers}, entries))
        return torch.cat(picked)


def planned_batch(arguments: Namespace) -> Batch:
    """Return the network of a trained round and windows of candidate regions."""
    from setting import Setting

    from nnunet_al.pool.table import by_case
    from nnunet_al.rounds.candidates import candidate_numbers
    from nnunet_al.rounds.round_model import load_round_model, window_pool
    from nnunet_al.scoring.posterior import micro_batch_size

    setting = Setting.of(arguments)
    context = setting.trained_round()
    with setting.environment():
        network = load_round_model(context, context.checkpoint(context.round))[1]
        pool = window_pool(context)
        size = micro_batch_size(pool.patch_size)
        numbers = np.random.default_rng(0).permutation(candidate_numbers(context))[:size].tolist()
        chunk = next(iter(pool.chunks(by_case(context.regions, sorted(numbers)), size, 1)))
    voxels_B = chunk.voxels_B.view(-1, *[1] * (chunk.mask_B_xyz.ndim - 1))
    return Batch(network, chunk.data_B_C_xyz, (chunk.mask_B_xyz / voxels_B).float())


def small_batch() -> Batch:
    """Return a small untrained network, and noise as windows."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    torch.manual_seed(0)
    network = PlainConvUNet(
        input_channels=1,
        n_stages=3,
        features_per_stage=[8, 16, 32],
        conv_op=nn.Conv2d,
        kernel_sizes=3,
        strides=[1, 2, 2],
        n_conv_per_stage=2,
        num_classes=3,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )
    return Batch(network, torch.randn(8, 1, 32, 24), torch.full((8, 32, 24), 1 / (32 * 24)))


def deviations(found_B_d: torch.Tensor, expected_B_d: torch.Tensor) -> np.ndarray:
    """Return ‖found - expected‖ / ‖expected‖ of each region."""
    found_B_d, expected_B_d = found_B_d.double().cpu(), expected_B_d.double().cpu()
    return ((found_B_d - expected_B_d).norm(dim=1) / expected_B_d.norm(dim=1)).numpy()


def flat(fisher: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([values.flatten() for values in fisher.values()])[None]


def check(batch: Batch, drawn: Mapping[str, Entries]) -> dict[str, float]:
    """Return our largest deviation from each of the usual methods."""
    ours, exact = batch.arranged(), batch.to("cpu").to(torch.float64)
    our_exact = exact.arranged()
    found = {"fisher_float64": deviations(flat(our_exact.fisher()), flat(exact.per_sample_fisher()))}
    for name, entries in drawn.items():
        expected_B_d = exact.per_sample_entries(entries)
        found[f"{name}_float64_per_sample"] = deviations(our_exact.entries(entries), expected_B_d)
        found[f"{name}_float64_torch_func"] = deviations(exact.torch_func_entries(entries), expected_B_d)
        some_d = ours.same_forward_entries(entries, CHECKED)
        found[f"{name}_float32_same_forward"] = deviations(ours.entries(entries)[:CHECKED], some_d)
    return {name: float(values_B.max()) for name, values_B in found.items()}


def check_decoder(batch: Batch, entries: Entries) -> float:
    """Return how far the sum of our embeddings is from the gradient of the sum, in float64."""
    exact = batch.to("cpu").to(torch.float64)
    sum_1_d = exact.arranged().entries(entries, exact.trained).sum(0, keepdim=True)
    return float(deviations(sum_1_d, select_entries(exact.decoder_pass()(), entries))[0])


def measure(
    batch: Batch, usimf: Entries, usimc: Entries, decoder: Entries, repetitions: int, device: str
) -> dict[str, Timing]:
    """Time all methods in turn."""
    ours = batch.arranged()
    ways: dict[str, Callable[[], Any]] = {
        "decoder": lambda: ours.entries(decoder, ours.trained),
        "decoder_pass": ours.decoder_pass(),
        "usimf": lambda: ours.entries(usimf),
        "one_backward": batch.one_backward,
        "usimc": lambda: ours.entries(usimc),
        "fisher": ours.fisher,
        "per_sample": lambda: batch.per_sample_entries(usimf),
        "torch_func": lambda: batch.torch_func_entries(usimf),
        "per_sample_fisher": batch.per_sample_fisher,
    }
    return alternate(ways, repetitions, device=device)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("-cases", type=int, help="use only the first CASES cases")
    parser.add_argument("-d", type=int, help="length of an embedding (default: 10000, quick: 1000)")
    parser.add_argument("-np", type=int, default=2, help="processes for preprocessing")
    parser.set_defaults(b=None, seed=0)
    arguments = parser.parse_args()
    batch = (small_batch() if arguments.quick else planned_batch(arguments)).to(arguments.device)
    d, repetitions = (1000, 3) if arguments.quick else (10_000, 7)
    d, repetitions = arguments.d or d, arguments.repetitions or repetitions
    drawn = sample_parameters(batch.fisher(), d, np.random.default_rng(0))
    usimf = {name: indices for name, indices in drawn.items() if len(indices)}
    usimc = {
        name: np.arange(min(d, layer.weight.numel())) for name, layer in bottleneck_convolution(batch.network).items()
    }
    fisher = batch.fisher(decoder_convolutions, batch.trained)
    drawn = sample_parameters(fisher, d, np.random.default_rng(0))
    decoder = {name: indices for name, indices in drawn.items() if len(indices)}
    checked = check(batch, {"usimf": usimf, "usimc": usimc}) | {"decoder_sum_float64": check_decoder(batch, decoder)}
    worst = max(checked.values())
    if not worst <= DEVIATION:
        raise SystemExit(f"Our gradients deviate from torch's by {worst:.2g} of their size, more than {DEVIATION:g}.")
    other_B = deviations(batch.arranged().entries(usimf), batch.per_sample_entries(usimf))
    with keeping_memory():
        found = measure(batch, usimf, usimc, decoder, repetitions, arguments.device)

    def claim(name: str, ours: str, other: str, note: str) -> Claim:
        return Claim.of_times(name, found[ours], found[other], len(batch) / 1000, "ms per region", note)

    backward = "one forward and backward pass for the batch"
    claims = [
        claim(
            "embedding_vs_decoder_pass",
            "decoder",
            "decoder_pass",
            "USIMF embedding (decoder, trained heads) / one forward and backward pass of the decoder",
        ),
        claim("gradients_vs_one_backward", "usimf", "one_backward", f"USIMF embedding / {backward}"),
        claim("gradients_bottleneck_vs_one_backward", "usimc", "one_backward", f"USIMC embedding / {backward}"),
        claim("gradients_vs_per_sample", "usimf", "per_sample", "USIMF embedding / autograd, region by region"),
        claim("gradients_vs_torch_func", "usimf", "torch_func", "USIMF embedding / torch.func.vmap(grad)"),
        claim("fisher_vs_per_sample", "fisher", "per_sample_fisher", "Fisher information / autograd, region by region"),
    ]
    report(
        arguments,
        "gradients",
        claims,
        deviation=worst,
        deviations=checked,
        float32_other_forward={"median": float(np.median(other_B)), "largest": float(other_B.max())},
        batch=len(batch),
        window=list(batch.data_B_C_xyz.shape[1:]),
        d=d,
        weights=sum(layer.weight.numel() for layer in convolutions(batch.network).values()),
        seconds={name: timing.seconds for name, timing in found.items()},
    )
    print(f"largest deviation from torch's gradients: {worst:.2g} of a vector's size")


if __name__ == "__main__":
    main()
