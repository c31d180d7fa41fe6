"""The stages of a round that lead from a model, or from nothing, to the next batch and its annotation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_al.annotation.oracle import ask
from nnunet_al.campaign.context import RoundContext
from nnunet_al.campaign.ledger import CaseAnnotation
from nnunet_al.campaign.model_stages import annotated_voxels
from nnunet_al.errors import ModelError, WaitingForReaders
from nnunet_al.files import read_arrays, read_json, temporary_sibling, write_arrays, write_json
from nnunet_al.pool.annotated import fully_annotated
from nnunet_al.pool.table import by_case
from nnunet_al.progress import count, say
from nnunet_al.selection.query import QuerySet
from nnunet_al.selection.random_draw import random_draw
from nnunet_al.strategies.select import Candidates, draw_query_for, select_batch

_NAMED = 5


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
    candidates, numbers_N = _scored(context)
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
    _, numbers_N = _scored(context)
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
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(target)
    out_N_d = np.lib.format.open_memmap(temporary, "w+", np.float32, (len(numbers), dimensions))
    row = {number: index for index, number in enumerate(numbers)}
    embedder.embed(window_pool(context), shard, entries, scale_d, out_N_d, row)
    out_N_d.flush()
    temporary.replace(target)
    write_arrays(_part_file(context, "embedded", context.options.part), numbers_N=np.array(numbers, np.int64))


def embed_merge(context: RoundContext) -> None:
    """Bring the shards' embeddings into one file, in the order of the candidates."""
    _, numbers_N = _scored(context)
    row = {number: index for index, number in enumerate(numbers_N.tolist())}
    parts = [np.load(path, mmap_mode="r") for path in part_files(context, "embeddings", ".npy")]
    temporary = temporary_sibling(context.round.embeddings)
    out_N_d = np.lib.format.open_memmap(temporary, "w+", np.float32, (len(row), parts[0].shape[1]))
    for embeddings, owners in zip(parts, part_files(context, "embedded"), strict=True):
        for index, number in enumerate(read_arrays(owners)["numbers_N"].tolist()):
            out_N_d[row[number]] = embeddings[index]
    out_N_d.flush()
    temporary.replace(context.round.embeddings)


def select(context: RoundContext) -> None:
    """Choose the batch."""
    recipe, budget = context.decided.recipe, context.decided.budget
    if recipe.phases():
        candidates, numbers_N = _scored(context)
        if recipe.embedding is not None and len(numbers_N):
            query = QuerySet(**read_arrays(context.round.query)) if context.round.query.is_file() else None
            embeddings_N_d = np.load(context.round.embeddings, mmap_mode="r")
            candidates = Candidates(
                candidates.names_N, candidates.scores_N, candidates.foreground_voxels_N, embeddings_N_d, query
            )
    else:
        numbers_N = np.array(candidate_numbers(context), np.int64)
        candidates = Candidates([context.regions[number].name for number in numbers_N])
    if len(numbers_N) <= budget:
        say(
            f"    the pool is used up after this batch: {count(len(numbers_N), 'region')} left for a budget of {budget}"
            if len(numbers_N)
            else "    the pool is used up: nothing is left to ask for"
        )
    chosen = select_batch(recipe, candidates, budget, context.rng, context.decided.engine or "streaming")
    scored = recipe.needs.scores
    _write_batch(context, numbers_N[chosen.indices_B], chosen.gains_B.tolist() if scored else [None] * len(chosen))


def select_initial(context: RoundContext) -> None:
    """Draw the initial batch; the same one for every strategy of a seed."""
    wanted = context.decided.initial
    if context.decided.starts_from == "dataset":
        _write_batch(context, np.zeros(0, np.int64), [])
        return
    names_N = [region.name for region in context.regions]
    if len(names_N) < wanted:
        say(f"    the pool holds {len(names_N)} regions, fewer than the {wanted} asked for: all are taken")
    drawn = random_draw(names_N, wanted, context.rng("initial batch"))
    _write_batch(context, drawn.indices_B, [None] * len(drawn))


def annotate(context: RoundContext) -> None:
    """Let the oracle annotate the batch and commit it to the ledger.

    Raises
    ------
    WaitingForReaders
        if the dataset has no label yet for some of the batch.
    """
    if context.ledger.commit_of_round(context.number) is None:
        if context.number == 0 and context.decided.starts_from == "dataset":
            _commit_existing(context)
        else:
            _commit_batch(context)
    context.round.embeddings.unlink(missing_ok=True)
    for stale in (context.round.root / "parts").glob("embeddings*"):
        stale.unlink()


def part_files(context: RoundContext, what: str, ending: str = ".npz") -> list[Path]:
    """Return the files of all shards, in order; they need not exist."""
    return [_part_file(context, what, part, ending) for part in range(context.options.parts)]


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


def _scored(context: RoundContext) -> tuple[Candidates, np.ndarray]:
    arrays = read_arrays(context.round.scores)
    numbers_N = arrays["numbers_N"]
    names_N = [context.regions[number].name for number in numbers_N]
    return Candidates(names_N, arrays["scores_N"], arrays["foreground_N"]), numbers_N


def _shard(context: RoundContext, numbers: Sequence[int]) -> dict[str, list[int]]:
    groups = by_case(context.regions, numbers)
    return {case: groups[case] for case in list(groups)[context.options.part :: context.options.parts]}


def _part_file(context: RoundContext, what: str, part: int, ending: str = ".npz") -> Path:
    return context.round.root / "parts" / f"{what}_{part}_of_{context.options.parts}{ending}"


def _tensor(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(array)


def _write_batch(context: RoundContext, numbers_B: np.ndarray, scores_B: Sequence[float | None]) -> None:
    regions = [context.regions[number] for number in numbers_B]
    entries = [
        {"rank": rank, "case": region.case, "box": [list(side) for side in region.box], "score": score}
        for rank, (region, score) in enumerate(zip(regions, scores_B, strict=True), start=1)
    ]
    strategy = "initial" if context.number == 0 else context.decided.recipe.name
    write_json(context.round.batch, {"round": context.number, "strategy": strategy, "regions": entries})
    say(f"    asking for {count(len(entries), 'region')} in {count(len({region.case for region in regions}), 'case')}")


def _commit_batch(context: RoundContext) -> None:
    from nnunet_al.pool.boxes import Region, as_box

    asked = [Region(e["case"], as_box(e["box"])) for e in read_json(context.round.batch)["regions"]]
    files = context.data.dataset.cases
    all_commits = context.ledger.commits()

    def read_labels(case: str) -> np.ndarray | None:
        label = files[case].label
        return None if label is None else context.label_format.read(label)

    def read_annotated(case: str) -> np.ndarray:
        return context.ledger.labels(case, context.data.facts[case].raw_shape, all_commits)

    answer = ask(asked, read_labels, read_annotated, context.ignore)
    if answer.unanswered:
        cases = sorted({region.case for region in answer.unanswered})
        more = f" and {len(cases) - _NAMED} more" if len(cases) > _NAMED else ""
        raise WaitingForReaders(
            f"Waiting for annotations: {len(answer.unanswered)} of {len(asked)} regions in {context.round.batch} have "
            f"no label yet. Annotate {', '.join(cases[:_NAMED])}{more} in {context.data.dataset.folder / 'labelsTr'} "
            "and run the same command again."
        )
    annotations = {
        case: CaseAnnotation(labels_xyz, context.label_format.read_with_properties(_label_of(context, case))[1])
        for case, labels_xyz in answer.labels.items()
    }
    context.ledger.append(context.number, "oracle", "oracle", tuple(asked), annotations, answer.disagreements)
    for sentence in answer.disagreements:
        say(f"    {sentence}")


def _commit_existing(context: RoundContext) -> None:
    annotations = {}
    for case in context.decided.pool_cases:
        if context.data.facts[case].label_state in {"complete", "partial"}:
            labels_xyz, properties = context.label_format.read_with_properties(_label_of(context, case))
            annotations[case] = CaseAnnotation(labels_xyz, properties)
    masks = {case: annotation.labels_xyz != context.ignore for case, annotation in annotations.items()}
    complete_N = fully_annotated(context.regions, masks)
    regions = tuple(region for region, complete in zip(context.regions, complete_N, strict=True) if complete)
    context.ledger.append(0, "dataset", "dataset", regions, annotations)
    say(f"    the dataset comes with {count(len(regions), 'annotated region')} in {count(len(annotations), 'case')}")


def _label_of(context: RoundContext, case: str) -> Path:
    label = context.data.dataset.cases[case].label
    assert label is not None, f"{case} was annotated from no file"
    return label
