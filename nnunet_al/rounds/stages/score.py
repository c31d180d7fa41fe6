"""Stage `score`: one pass over the pool that scores its regions, and the merge of its shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_al.errors import CampaignError, ModelError, StrategyError
from nnunet_al.files import read_json, write_arrays
from nnunet_al.nnunet.devices import arithmetic
from nnunet_al.nnunet.model import Plan
from nnunet_al.nnunet.pool_scoring import Measure, PoolStatistics, Scorer, merge
from nnunet_al.rounds import shards
from nnunet_al.rounds.candidates import scored_numbers
from nnunet_al.rounds.composed import measures
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.groups import roi_channels
from nnunet_al.rounds.posterior import ensemble_checkpoints, make_sampler
from nnunet_al.rounds.round_model import load_round_model, window_pool
from nnunet_al.rounds.shards import NowAndThen
from nnunet_al.scoring.foreground_sets import AtQuantile, Boundary, Target
from nnunet_al.scoring.reductions import COUNTS_VOXELS, Reduction, make_reduction
from nnunet_al.strategies.registry import is_built_in, voxel_map
from nnunet_al.terminal import say

_OR_OVERFLOW = {"float32": "", "half": " or half precision overflows (-precision float32 has more room)"}


def score_part(context: RoundContext) -> None:
    """Score the candidates of this call's shard: the cases ``part``, ``part + parts``, ... in sorted order.

    Regions that earlier calls have scored are taken over, whatever the number of shards was. A region's numbers depend
    on no other region, so that it does not matter which call scored it.
    """
    options = context.options
    plan, network, device = load_round_model(context, context.checkpoint(context.round))
    sampler = make_sampler(context, plan, network, device)
    measures: dict[str, Measure] = {}
    for name, (metric, reduction) in context.decided.recipe.measures().items():
        measures[name] = Measure(voxel_map(metric), _reduction(context, reduction), metric)
    channels = roi_channels(context, plan.heads, plan.exclusive)
    scorer = Scorer(
        sampler, plan.exclusive, measures, device, options.scoring_batch_size, options.workers, roi_channels=channels
    )
    mine, identity = shards.share(context, scored_numbers(context)), _made_by(context)
    kind = arithmetic(device.type)
    before = _scored_before(context, mine, identity, kind)
    target = shards.part_file(context, "scores", options.part)

    def write(found: PoolStatistics) -> None:
        arrays = merge([before, found]).to_arrays()
        write_arrays(target, **arrays, made_by=np.array(identity), device=np.array(kind))

    write(scorer.run(window_pool(context), shards.without(mine, before.numbers_N), NowAndThen(write)))


def _scored_before(
    context: RoundContext, mine: Mapping[str, Sequence[int]], identity: str, device: str
) -> PoolStatistics:
    """Return the saved statistics of this shard's regions; in half precision only those from the same kind of device.

    A region that stands in several files is the same in all of them.
    """
    wanted_N = np.array([number for some in mine.values() for number in some], np.int64)
    found = [PoolStatistics(np.zeros(0, np.int64), np.zeros(0, np.int64), {})]
    for path in shards.all_part_files(context, "scores"):
        arrays = shards.read_part(path, identity)
        if arrays is None or (context.decided.precision == "half" and str(arrays["device"]) != device):
            continue
        part = PoolStatistics.from_arrays(arrays)
        known_N = np.concatenate([one.numbers_N for one in found])
        found.append(part.take(np.isin(part.numbers_N, wanted_N) & ~np.isin(part.numbers_N, known_N)))
    merged = merge(found)
    shards.say_taken_over(len(merged.numbers_N), len(wanted_N), "scored")
    return merged


def score_merge(context: RoundContext) -> None:
    """Put the shards' statistics together and turn them into scores.

    Raises CampaignError if shards are missing or not of the round's present model, or half precision was not the same
    for all.
    """
    identity = _made_by(context)
    found = [shards.read_part(path, identity) for path in shards.part_files(context, "scores")]
    parts = [arrays for arrays in found if arrays is not None]
    if len(parts) < len(found):
        shards.do_again(context, "score")
    devices = sorted({str(arrays.pop("device")) for arrays in parts})
    if context.decided.precision == "half" and len(devices) > 1:
        raise CampaignError(
            f"Shards of round {context.number} were scored on {' and '.join(devices)}, where half precision is not the "
            f"same: delete {context.round.stages}/score*.json and score all shards on one kind of device."
        )
    merged = merge([PoolStatistics.from_arrays(arrays) for arrays in parts])
    scores_of = {}
    for name, (metric, reduction) in context.decided.recipe.measures().items():
        if len(merged.numbers_N):
            counts = {"annotated_voxels_C": annotated_voxels(context)} if reduction in COUNTS_VOXELS else {}
            rule = _reduction(context, reduction)
            scores = rule.finish(merged.stats[name], **counts)
            if isinstance(rule, (Target, Boundary, AtQuantile)):
                say(f"    {rule.name}: {rule.line(merged.stats[name])}")
        else:
            scores = np.zeros((0, 1) if reduction == "class_means" else 0)
        scores_of[f"{name}_N_C" if scores.ndim == 2 else f"{name}_N"] = scores
        without_set = np.isnan(scores) & (reduction in {"target", "boundary"})  # no voxel of the region is in the set
        if not (np.isfinite(scores) | without_set).all():
            if not is_built_in(metric):
                raise StrategyError(
                    f"The metric '{metric}' of another package gives values that are not finite: correct it there, "
                    "delete the round's stages/score*.json and parts/scores* and run the same command again."
                )
            raise ModelError(
                f"The model {context.checkpoint(context.round)} predicts values that are not finite, so its training "
                f"diverged{_OR_OVERFLOW[context.decided.precision]}: start another campaign with -tag and, for "
                "example, -optimizer adamw."
            )
    write_arrays(context.round.scores, numbers_N=merged.numbers_N, foreground_N=merged.foreground_N, **scores_of)
    shards.remove_others(context, "score", "scores")


def _made_by(context: RoundContext) -> str:
    others = ensemble_checkpoints(context) if context.decided.recipe.posterior == "ensemble" else []
    return shards.made_by(context, context.checkpoint(context.round), *others)


def _reduction(context: RoundContext, name: str) -> Reduction:
    return make_reduction(name, context.decided.recipe.parameters, context.configuration["spacing"])


def annotated_voxels(context: RoundContext) -> np.ndarray:
    """Count the annotated voxels of each foreground class (or region), in the order of the network's outputs."""
    dataset_json = read_json(context.round.view.preprocessed / context.decided.dataset / "dataset.json")
    heads = Plan.of(context.plans, dataset_json, context.decided.configuration).heads
    found = [record["voxels"] for record in measures(context).values()]
    return np.array(
        [sum(sum(voxels[value] for value in np.unique(of) if value < len(voxels)) for voxels in found) for of in heads]
    )
