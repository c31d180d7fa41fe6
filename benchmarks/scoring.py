"""Monte Carlo dropout scoring compared with the naive implementation and with the limit, on Hippocampus patches.

The naive implementation has batch size 1: it scores one region and one pass at a time, with the same sub-networks and
the same map (BALD); the autograd graph of the authors' code is omitted, which makes it faster. The limit is T bare
forward passes over the same patches: no dropout, no map, no reading. It is the faster of two networks in the same
precision, each at its fastest batch size: nnU-Net's own, and the one in our memory layout. The network is that of
nnU-Net's plans.

``scoring_last_bare_forwards`` is the cost of T samples with ``-dropout last``, counted in bare forward passes. Its
price: Spearman's rank correlation with the scores of ``-dropout decoder`` and the overlap of batches, on one trained
model; beside it the same between two draws of sub-networks of ``decoder``, which differ by chance alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch
from measuring import Claim, Timing, alternate, make_parser, report
from scipy.stats import spearmanr
from setting import Setting

from nnunet_al.allocation import keeping_memory
from nnunet_al.nnunet.pool_scoring import Measure, Scorer
from nnunet_al.pool.table import by_case
from nnunet_al.rounds.candidates import candidate_numbers
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round_model import load_round_model, window_pool
from nnunet_al.rounds.stages.score import annotated_voxels
from nnunet_al.scoring import posterior
from nnunet_al.scoring.dropout import evaluating, insert_dropout, sub_network
from nnunet_al.scoring.fast_network import PRECISIONS, as_weights, fast_network
from nnunet_al.scoring.maps import bald
from nnunet_al.scoring.posterior import head_probabilities
from nnunet_al.scoring.reductions import make_reduction
from nnunet_al.scoring.samplers import DropoutSampler
from nnunet_al.scoring.tensors import full_resolution
from nnunet_al.strategies.registry import voxel_map

METRICS = ("bald", "entropy", "mean_std", "margin")
PRICED = ("mean_std", "bald", "class_variance")
REDUCTION_OF = {"class_variance": "class_weighted"}  # as USIM asks for it; all other maps: the mean
BATCH_SIZES = {"cpu": (8, 16, 32, 64), "cuda": (32, 64, 128, 256, 512), "mps": (32, 64, 128, 256)}
DEVIATION = 1e-5


@dataclass(frozen=True)
class Scoring:
    """A trained round and the regions to score."""

    context: RoundContext
    passes: int

    def network(self, precision: str | None, where: str = "decoder") -> torch.nn.Module:
        """Return the round's network with dropout; None: as nnU-Net builds it."""
        network = load_round_model(self.context, self.context.checkpoint(self.context.round))[1]
        insert_dropout(network, where=where)
        return network if precision is None else fast_network(network, precision)

    @property
    def device(self) -> torch.device:
        return torch.device(self.context.options.device)

    def ours(
        self, network: torch.nn.Module, numbers: list[int], metrics: tuple[str, ...] = ("bald",), seed: int = 0
    ) -> dict[str, np.ndarray]:
        """Score regions as a round does; the seed draws the sub-networks."""
        spacing = self.context.configuration["spacing"]
        reductions = {name: make_reduction(REDUCTION_OF.get(name, "mean"), {}, spacing) for name in metrics}
        measures = {name: Measure(voxel_map(name), reductions[name], name) for name in metrics}
        sampler = DropoutSampler(network, True, self.passes, np.random.default_rng(seed))
        scorer = Scorer(sampler, True, measures, self.device, self.context.options.scoring_batch_size, 2)
        found = scorer.run(window_pool(self.context), by_case(self.context.regions, numbers))
        voxels_C = annotated_voxels(self.context)
        return {
            name: reduction.finish(found.stats[name], annotated_voxels_C=voxels_C)
            for name, reduction in reductions.items()
        }

    def windows(self, numbers: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return data_N_C_xyz and mask_N_xyz, one window per region."""
        chunks = list(window_pool(self.context).chunks(by_case(self.context.regions, numbers), 64, 2))
        if [number for chunk in chunks for number in chunk.numbers] != numbers:
            raise SystemExit("Some regions have several windows: this benchmark needs regions of one patch.")
        data_N_C_xyz = torch.cat([chunk.data_B_C_xyz for chunk in chunks]).to(self.device)
        return data_N_C_xyz, torch.cat([chunk.mask_B_xyz for chunk in chunks]).to(self.device)

    def naive(self, network: torch.nn.Module, data_N_C_xyz: torch.Tensor, mask_N_xyz: torch.Tensor) -> np.ndarray:
        """Score by BALD, one region and one pass at a time."""
        masks = DropoutSampler(network, True, self.passes, np.random.default_rng(0)).masks(data_N_C_xyz)
        scores = []
        with evaluating(network), torch.no_grad():
            for data_C_xyz, mask_xyz in zip(data_N_C_xyz, mask_N_xyz, strict=True):
                samples = []
                for t in range(self.passes):
                    with sub_network(network, masks, t):
                        logits = full_resolution(network(data_C_xyz[None]))
                    samples.append(head_probabilities(logits, True))
                values_xyz = bald(torch.stack(samples), True)[0]
                scores.append(values_xyz[mask_xyz].double().mean().item())
        return np.array(scores)


def bare(network: torch.nn.Module, data_N_C_xyz: torch.Tensor, passes: int, size: int) -> None:
    """T forward passes and nothing else."""
    data_N_C_xyz = as_weights(network, data_N_C_xyz)
    with keeping_memory(), evaluating(network), torch.inference_mode():
        for _ in range(passes):
            for batch_B_C_xyz in data_N_C_xyz.split(size):
                network(batch_B_C_xyz)


def best_size(network: torch.nn.Module, data_N_C_xyz: torch.Tensor, device: str) -> int:
    """Return the batch size at which bare forward passes are fastest."""
    sizes = BATCH_SIZES[device]
    some = data_N_C_xyz.repeat(-(-max(sizes) // len(data_N_C_xyz)), *[1] * (data_N_C_xyz.ndim - 1))[: max(sizes)]
    ways = {str(size): _call(bare, network, some, 1, size) for size in sizes}
    found = alternate(ways, 2, device=device)
    return int(min(found, key=lambda size: found[size].median))


def unshared(way: Callable[[], Any]) -> Callable[[], Any]:
    """Return our implementation without sharing the layers before the first dropout."""

    def call() -> Any:
        nothing = {"return_value": nullcontext()}
        with mock.patch.multiple(posterior, shared_prefix=mock.Mock(**nothing), shared_skips=mock.Mock(**nothing)):
            return way()

    return call


def times(scoring: Scoring, numbers: list[int], repetitions: int) -> tuple[dict[str, Timing], float]:
    """Time all implementations in turn; return them with our largest relative deviation from the naive scores."""
    data_N_C_xyz, mask_N_xyz = scoring.windows(numbers)
    stock = scoring.network(None)
    ways: dict[str, Callable[[], Any]] = {"naive": _call(scoring.naive, stock, data_N_C_xyz, mask_N_xyz)}
    for precision in PRECISIONS:
        network = scoring.network(precision)
        plain = copy.deepcopy(stock).to(next(network.parameters()).dtype)
        size, plain_size = (best_size(one, data_N_C_xyz, scoring.device.type) for one in (network, plain))
        ways[precision] = _call(scoring.ours, network, numbers)
        ways[f"{precision}_unshared"] = unshared(ways[precision])
        ways[f"{precision}_last"] = _call(scoring.ours, scoring.network(precision, "last"), numbers)
        ways[f"{precision}_bare"] = _call(bare, network, data_N_C_xyz, scoring.passes, size)
        ways[f"{precision}_bare_stock"] = _call(bare, plain, data_N_C_xyz, scoring.passes, plain_size)
    theirs_N, ours_N = ways["naive"](), ways["float32"]()["bald"]
    deviation = float(np.max(np.abs(ours_N - theirs_N) / np.abs(theirs_N).max()))
    return alternate(ways, repetitions, device=scoring.device.type), deviation


def limit(found: Mapping[str, Timing], precision: str) -> tuple[Timing, str]:
    """Return the bare passes of the faster network, and which one it is."""
    timing, which = min(
        ((found[f"{precision}_bare"], "arranged"), (found[f"{precision}_bare_stock"], "stock")),
        key=lambda one: one[0].median,
    )
    return timing, which


def agreement(scoring: Scoring, numbers: list[int], budget: int) -> dict[str, dict[str, float]]:
    """Compare the scores of all regions in half precision with those in float32, and the batches."""
    full, half = (scoring.ours(scoring.network(precision), numbers, METRICS) for precision in PRECISIONS)
    return _compared(full, half, budget)


def price_of_last(scoring: Scoring, numbers: list[int], budget: int) -> dict[str, dict[str, dict[str, float]]]:
    """Compare dropout in the last two stages with dropout in the decoder, and two draws of the latter, in half."""
    decoder = scoring.network("half")
    scores = scoring.ours(decoder, numbers, PRICED)
    others = {
        "last": scoring.ours(scoring.network("half", "last"), numbers, PRICED),
        "decoder_other_draw": scoring.ours(decoder, numbers, PRICED, seed=1),
    }
    return {name: _compared(scores, found, budget) for name, found in others.items()}


def _compared(
    one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], budget: int
) -> dict[str, dict[str, float]]:
    return {
        metric: {
            "spearman": float(spearmanr(one[metric], other[metric]).statistic),
            "same_in_batch": len(_best(one[metric], budget) & _best(other[metric], budget)) / budget,
        }
        for metric in one
    }


def _best(scores_N: np.ndarray, budget: int) -> set[int]:
    return set(np.argsort(-scores_N, kind="stable")[:budget].tolist())


def _call(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: function(*arguments)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("-cases", type=int, help="use only the first CASES cases")
    parser.add_argument(
        "-regions", type=int, help="regions scored in each repetition: whole batches of 64 (default: 128, quick: 64)"
    )
    parser.add_argument("-passes", type=int, help="number of passes T (default: 10, quick: 4)")
    parser.add_argument("-np", type=int, default=2, help="processes for preprocessing")
    parser.set_defaults(b=None, seed=0)
    arguments = parser.parse_args()
    setting = Setting.of(arguments)
    context = setting.trained_round()
    candidates = candidate_numbers(context)
    wanted = arguments.regions or (64 if arguments.quick else 128)
    some = sorted(np.random.default_rng(0).permutation(candidates)[:wanted].tolist())
    scoring = Scoring(context, arguments.passes or (4 if arguments.quick else 10))
    with setting.environment():
        found, deviation = times(scoring, some, arguments.repetitions or (2 if arguments.quick else 5))
        agreed = agreement(scoring, candidates, setting.budget)
        price = price_of_last(scoring, candidates, setting.budget)
    if not deviation < DEVIATION:
        raise SystemExit(f"Our scores deviate from the naive ones by {deviation:.2g}, more than {DEVIATION:g}.")
    per = len(some) * scoring.passes / 1000
    which: dict[str, str] = {}

    for precision in PRECISIONS:
        found[f"{precision}_limit"], which[precision] = limit(found, precision)

    def claim(name: str, ours: str, other: str, note: str) -> Claim:
        return Claim.of_times(name, found[ours], found[other], per, "ms per pass and patch", note)

    naive, bare_half = "naive at batch size 1", f"T bare passes ({which['half']} network)"
    claims = [
        claim("scoring_vs_naive", "float32_unshared", "naive", f"float32, nothing shared / {naive}"),
        claim("scoring_prefix_vs_naive", "float32", "naive", f"float32, as a round scores / {naive}"),
        claim("scoring_prefix_vs_unshared", "float32", "float32_unshared", "float32, prefix shared / not"),
        claim("scoring_half_vs_naive", "half_unshared", "naive", f"half precision, nothing shared / {naive}"),
        claim("scoring_half_prefix_vs_naive", "half", "naive", f"half precision, as a round scores / {naive}"),
        claim("scoring_half_prefix_vs_unshared", "half", "half_unshared", "half precision, prefix shared / not"),
        claim("scoring_unshared_vs_bare_forward", "half_unshared", "half_limit", f"half, nothing shared / {bare_half}"),
        claim("scoring_vs_bare_forward", "half", "half_limit", f"half, as a round scores / {bare_half}"),
        claim(
            "scoring_float32_vs_bare_forward",
            "float32",
            "float32_limit",
            f"float32, as a round scores / T bare passes ({which['float32']} network)",
        ),
        claim("scoring_last_vs_bare_forward", "half_last", "half_limit", f"half, -dropout last / {bare_half}"),
        claim("scoring_last_vs_decoder", "half_last", "half", "half, -dropout last / -dropout decoder"),
        claim("arrangement_float32", "float32_bare", "float32_bare_stock", "bare float32 passes: arranged / stock"),
        claim("arrangement_half", "half_bare", "half_bare_stock", "bare half passes: arranged / stock"),
    ]
    for name, precision in (("scoring_last_bare_forwards", "half"), ("scoring_last_float32_bare_forwards", "float32")):
        pairs = zip(found[f"{precision}_last"].seconds, found[f"{precision}_limit"].seconds, strict=True)
        cost = median(scoring.passes * ours / bare_passes for ours, bare_passes in pairs)
        note = f"{precision}, cost of {scoring.passes} samples with -dropout last; other: their number"
        claims.append(Claim(name, scoring.passes / cost, cost, scoring.passes, "bare forward passes", note=note))
    for name, key in (("scoring_last_spearman", "spearman"), ("scoring_last_same_batch", "same_in_batch")):
        last, by_chance = (min(one[key] for one in price[of].values()) for of in ("last", "decoder_other_draw"))
        note = f"-dropout last against decoder, the lowest of {', '.join(PRICED)}; other: two draws of decoder"
        claims.append(Claim(name, None, last, by_chance, "", note=note))
    for name, key in (("scoring_half_spearman", "spearman"), ("scoring_half_same_batch", "same_in_batch")):
        note = f"half precision against float32, {len(candidates)} regions, the lowest of {', '.join(METRICS)}"
        claims.append(Claim(name, None, min(one[key] for one in agreed.values()), None, "", note=note))
    report(
        arguments,
        "scoring",
        claims,
        regions=len(some),
        passes=scoring.passes,
        deviation_from_naive=deviation,
        half_against_float32={"regions": len(candidates), "budget": setting.budget, **agreed},
        last_against_decoder={"regions": len(candidates), "budget": setting.budget, **price},
        faster_bare_network=which,
        seconds={name: timing.seconds for name, timing in found.items()},
    )
    compared = {"half precision, float32": agreed, "-dropout last, decoder": price["last"]}
    compared["two draws of -dropout decoder"] = price["decoder_other_draw"]
    for kinds, of_metric in compared.items():
        for metric, numbers in of_metric.items():
            same = f"{numbers['same_in_batch']:.0%} of a batch of {setting.budget} the same"
            print(f"{kinds}, {metric}: Spearman {numbers['spearman']:.5f}, {same}")


if __name__ == "__main__":
    main()
