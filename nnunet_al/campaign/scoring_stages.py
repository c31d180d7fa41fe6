"""The stages of a round that score the pool with its model: each reads every case once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.campaign.context import RoundContext
from nnunet_al.campaign.model_stages import annotated_voxels
from nnunet_al.errors import ModelError
from nnunet_al.files import read_arrays, write_arrays, write_mapped_array
from nnunet_al.pool.annotated import fully_annotated
from nnunet_al.pool.table import by_case
from nnunet_al.strategies.select import Candidates, draw_query_for


def candidate_numbers(context: RoundContext) -> list[int]:
    """Return the regions that may be asked for: those that are not annotated in full and were not asked for before.

    A region can have been answered and yet hold voxels that its reader left out on purpose.
    """
    annotated = {
        case: context.label_format.read(context.composed_label(case)) != context.ignore
        for case in context.annotated_cases
    }
    complete_N = fully_annotated(context.regions, annotated)
    answered = {region for commit in context.commits for region in commit.regions}
    return [number for number in np.flatnonzero(~complete_N).tolist() if context.regions[number] not in answered]


def score_part(context: RoundContext) -> None:
    """Score the candidates of this call's shard: the cases ``part``, ``part + parts``, ... in sorted order."""
    from nnunet_al.campaign.evaluation import load_round_model
    from nnunet_al.nnunet.pool_scoring import Scorer
    from nnunet_al.scoring.dropout import insert_dropout

    options, recipe = context.options, context.decided.recipe
    plan, network, device = load_round_model(context, context.checkpoint(context.round))
    sampled = recipe.posterior == "mc_dropout"
    if sampled:
        insert_dropout(network, where=context.decided.dropout)
    scorer = Scorer(
        network,
        plan.exclusive,
        recipe.metric or "entropy",
        recipe.reduction or "mean",
        recipe.passes,
        sampled,
        context.rng("dropout"),
        device,
        options.scoring_batch_size,
        options.workers,
    )
    part = scorer.run(window_pool(context), _shard(context, candidate_numbers(context)))
    write_arrays(_part_file(context, "scores", options.part), **vars(part))


def score_merge(context: RoundContext) -> None:
    """Put the shards' statistics together and turn them into scores."""
    from nnunet_al.nnunet.pool_scoring import PoolStatistics, merge
    from nnunet_al.scoring.reductions import REDUCTIONS

    parts = [PoolStatistics(**read_arrays(path)) for path in part_files(context, "scores")]
    merged = merge(parts)
    recipe = context.decided.recipe
    scores_N = REDUCTIONS[recipe.reduction or "mean"].finish(
        _tensor(merged.stats_N_K), annotated_voxels_C=annotated_voxels(context)
    )
    if not np.isfinite(scores_N).all():
        raise ModelError(
            f"The model {context.checkpoint(context.round)} predicts values that are not finite, so its training "
            "diverged: start another campaign with -tag and, for example, -optimizer adamw."
        )
    write_arrays(context.round.scores, numbers_N=merged.numbers_N, scores_N=scores_N, foreground_N=merged.foreground_N)


def fisher(context: RoundContext) -> None:
    """Draw the query set; average squared gradients over a random subset of it; choose the parameters that count."""
    from nnunet_al.scoring.fisher import fisher_scale, sample_parameters, sampled_fisher

    recipe = context.decided.recipe
    candidates, numbers_N = read_scores(context)
    query = draw_query_for(recipe, candidates, context.decided.budget, context.rng)
    write_arrays(context.round.query, indices_Q=query.indices_Q, multiplicities_Q=query.multiplicities_Q)
    if not len(query):
        write_arrays(context.round.fisher, scale_d=np.ones(1))
        return
    draws = np.repeat(query.indices_Q, query.multiplicities_Q)
    subset = context.rng("fisher subset").choice(
        draws, min(recipe.parameters["fisher_samples"], len(draws)), replace=False
    )
    times = Counter(int(numbers_N[index]) for index in subset)
    diagonal = _embedder(context).fisher(window_pool(context), by_case(context.regions, times), times)
    entries = sample_parameters(diagonal, recipe.parameters["embedding_size"], context.rng("parameters"))
    scale_d = fisher_scale(sampled_fisher(diagonal, entries), recipe.parameters["damping"])
    write_arrays(context.round.fisher, scale_d=scale_d, **{f"entries/{name}": part for name, part in entries.items()})


def embed_part(context: RoundContext) -> None:
    """Write the gradient embeddings of this shard's candidates."""
    from nnunet_al.nnunet.pool_embedding import Embedder

    recipe = context.decided.recipe
    _, numbers_N = read_scores(context)
    shard = _shard(context, numbers_N.tolist())
    numbers = sorted(number for some in shard.values() for number in some)
    embedder: Embedder = _embedder(context)
    scale_d: Any = 1.0
    if recipe.embedding == "fisher":
        arrays = read_arrays(context.round.fisher)
        scale_d = arrays.pop("scale_d")
        entries = {name.removeprefix("entries/"): part for name, part in arrays.items() if len(part)}
    else:
        entries = embedder.bottleneck_entries(recipe.parameters["embedding_size"])
    dimensions = sum(len(part) for part in entries.values())
    target = _part_file(context, "embeddings", context.options.part, ".npy")
    row = {number: index for index, number in enumerate(numbers)}
    pool = window_pool(context)
    write_mapped_array(
        target,
        (len(numbers), dimensions),
        lambda out_N_d: embedder.embed(pool, shard, entries, scale_d, out_N_d, row),
    )
    write_arrays(_part_file(context, "embedded", context.options.part), numbers_N=np.array(numbers, np.int64))


def embed_merge(context: RoundContext) -> None:
    """Bring the shards' embeddings into one file, in the order of the candidates."""
    _, numbers_N = read_scores(context)
    row = {number: index for index, number in enumerate(numbers_N.tolist())}
    parts = [np.load(path, mmap_mode="r") for path in part_files(context, "embeddings", ".npy")]

    def join(out_N_d: np.ndarray) -> None:
        for embeddings, owners in zip(parts, part_files(context, "embedded"), strict=True):
            for index, number in enumerate(read_arrays(owners)["numbers_N"].tolist()):
                out_N_d[row[number]] = embeddings[index]

    write_mapped_array(context.round.embeddings, (len(row), parts[0].shape[1]), join)


def part_files(context: RoundContext, what: str, ending: str = ".npz") -> list[Path]:
    """Return the files of all shards, in order; they need not exist."""
    return [_part_file(context, what, part, ending) for part in range(context.options.parts)]


def read_scores(context: RoundContext) -> tuple[Candidates, np.ndarray]:
    """Return the candidates with their scores, and their region numbers in the same order."""
    arrays = read_arrays(context.round.scores)
    numbers_N = arrays["numbers_N"]
    names_N = [context.regions[number].name for number in numbers_N]
    return Candidates(names_N, arrays["scores_N"], arrays["foreground_N"]), numbers_N


def window_pool(context: RoundContext) -> Any:
    """Return the regions with a way to read their preprocessed images."""
    from nnunet_al.nnunet.window_stream import Pool

    images = context.pool_images()
    patch_size = tuple(context.plans["configurations"][context.decided.configuration]["patch_size"])
    return Pool(context.regions, context.geometries, lambda case: images[case].open()[:], patch_size)


def _embedder(context: RoundContext) -> Any:
    from nnunet_al.campaign.evaluation import load_round_model
    from nnunet_al.nnunet.pool_embedding import Embedder

    plan, network, device = load_round_model(context, context.checkpoint(context.round))
    options = context.options
    return Embedder(network, plan.exclusive, device, options.scoring_batch_size, options.workers)


def _shard(context: RoundContext, numbers: Sequence[int]) -> dict[str, list[int]]:
    groups = by_case(context.regions, numbers)
    return {case: groups[case] for case in list(groups)[context.options.part :: context.options.parts]}


def _part_file(context: RoundContext, what: str, part: int, ending: str = ".npz") -> Path:
    return context.round.root / "parts" / f"{what}_{part}_of_{context.options.parts}{ending}"


def _tensor(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(array)
