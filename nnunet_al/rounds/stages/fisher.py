"""Stage `fisher`: the query set, and the parameters of the network that count for it."""

from __future__ import annotations

from collections import Counter

import numpy as np

from nnunet_al.files import hash_json, write_arrays
from nnunet_al.nnunet.checkpoints import trained_heads
from nnunet_al.nnunet.devices import arithmetic
from nnunet_al.pool.table import by_case
from nnunet_al.rounds import shards
from nnunet_al.rounds.candidates import read_scores
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round_model import make_embedder, window_pool
from nnunet_al.scoring.fisher import fisher_scale, sample_parameters, sampled_fisher
from nnunet_al.scoring.layers import convolutions, decoder_convolutions, number_of_heads
from nnunet_al.strategies.select import draw_query_for
from nnunet_al.terminal import say
from nnunet_al.text import count


def fisher(context: RoundContext) -> None:
    """Draw the query set; average squared gradients over a random subset of it; choose the parameters that count."""
    candidates, numbers_N = read_scores(context)
    query = draw_query_for(context.decided.recipe, candidates, context.decided.budget, context.rng)
    write_arrays(context.round.query, indices_Q=query.indices_Q, multiplicities_Q=query.multiplicities_Q)
    fisher_of_draws(context, np.repeat(numbers_N[query.indices_Q], query.multiplicities_Q))


def fisher_of_draws(context: RoundContext, draws: np.ndarray) -> None:
    """Average squared gradients over a random subset of the drawn regions, given by their numbers.

    Sums of a call that was stopped are taken over where batches and arithmetic are the same.
    """
    parameters = context.decided.recipe.parameters
    if not len(draws):
        write_arrays(context.round.fisher, scale_d=np.ones(1))
        return
    subset = context.rng("fisher subset").choice(draws, min(parameters["fisher_samples"], len(draws)), replace=False)
    times = Counter(subset.tolist())
    embedder = make_embedder(context)
    layers = (decoder_convolutions if parameters["layers"] == "decoder" else convolutions)(embedder.network)
    heads = number_of_heads(embedder.network, parameters["heads"], trained_heads(context.checkpoint(context.round)))
    options, model = context.options, shards.made_by(context, context.checkpoint(context.round))
    identity = hash_json([model, sorted(times.items()), options.scoring_batch_size, arithmetic(options.device)])
    part = context.round.parts / "squares.npz"
    before = shards.read_part(part, identity)
    if before is not None:
        say(f"    {count(before['seen_R'].size, 'region')} of {len(times)} averaged before")

    def write(sums: dict[str, np.ndarray]) -> None:
        write_arrays(part, **sums, made_by=np.array(identity))

    cases = by_case(context.regions, times)
    diagonal = embedder.fisher(window_pool(context), cases, times, layers, heads, before, shards.NowAndThen(write))
    entries = sample_parameters(diagonal, parameters["embedding_size"], context.rng("parameters"))
    scale_d = fisher_scale(sampled_fisher(diagonal, entries), parameters["damping"])
    named = {f"entries/{name}": some for name, some in entries.items()}
    write_arrays(context.round.fisher, scale_d=scale_d, heads=np.array(heads), **named)
    part.unlink(missing_ok=True)
