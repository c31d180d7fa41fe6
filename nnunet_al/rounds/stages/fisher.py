"""Stage `fisher`: the query set, and the parameters of the network that count for it."""

from __future__ import annotations

from collections import Counter

import numpy as np

from nnunet_al.files import write_arrays
from nnunet_al.nnunet.checkpoints import trained_heads
from nnunet_al.pool.table import by_case
from nnunet_al.rounds.candidates import read_scores
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.round_model import make_embedder, window_pool
from nnunet_al.scoring.fisher import fisher_scale, sample_parameters, sampled_fisher
from nnunet_al.scoring.layers import convolutions, decoder_convolutions, number_of_heads
from nnunet_al.strategies.select import draw_query_for


def fisher(context: RoundContext) -> None:
    """Draw the query set; average squared gradients over a random subset of it; choose the parameters that count."""
    candidates, numbers_N = read_scores(context)
    query = draw_query_for(context.decided.recipe, candidates, context.decided.budget, context.rng)
    write_arrays(context.round.query, indices_Q=query.indices_Q, multiplicities_Q=query.multiplicities_Q)
    fisher_of_draws(context, np.repeat(numbers_N[query.indices_Q], query.multiplicities_Q))


def fisher_of_draws(context: RoundContext, draws: np.ndarray) -> None:
    """Average squared gradients over a random subset of the drawn regions, given by their numbers."""
    parameters = context.decided.recipe.parameters
    if not len(draws):
        write_arrays(context.round.fisher, scale_d=np.ones(1))
        return
    subset = context.rng("fisher subset").choice(draws, min(parameters["fisher_samples"], len(draws)), replace=False)
    times = Counter(subset.tolist())
    embedder = make_embedder(context)
    layers = (decoder_convolutions if parameters["layers"] == "decoder" else convolutions)(embedder.network)
    trained = trained_heads(context.checkpoint(context.round))
    heads = number_of_heads(embedder.network, parameters["heads"], trained)
    diagonal = embedder.fisher(window_pool(context), by_case(context.regions, times), times, layers, heads)
    entries = sample_parameters(diagonal, parameters["embedding_size"], context.rng("parameters"))
    scale_d = fisher_scale(sampled_fisher(diagonal, entries), parameters["damping"])
    named = {f"entries/{name}": part for name, part in entries.items()}
    write_arrays(context.round.fisher, scale_d=scale_d, heads=np.array(heads), **named)
