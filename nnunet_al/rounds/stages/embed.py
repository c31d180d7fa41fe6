"""Stage `embed`: one pass over the pool that describes its regions by vectors, and the merge of its shards."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnunet_al.errors import ModelError
from nnunet_al.files import read_arrays, write_mapped_array
from nnunet_al.nnunet.pool_embedding import Embedder, WindowVectors
from nnunet_al.rounds import shards
from nnunet_al.rounds.candidates import embedded_numbers
from nnunet_al.rounds.context import RoundContext
from nnunet_al.rounds.embedding_parts import EmbeddingPart, read_vectors
from nnunet_al.rounds.round_model import make_embedder, window_pool
from nnunet_al.rounds.shards import NowAndThen
from nnunet_al.scoring.features import bottleneck_features
from nnunet_al.scoring.gradients import gradient_entries, sketched_gradients
from nnunet_al.scoring.layers import bottleneck_convolution, decoder_convolution
from nnunet_al.scoring.segmentation_loss import self_loss
from nnunet_al.scoring.sketch import CountSketch


def embed_part(context: RoundContext) -> None:
    """Write the vectors of this shard's regions; those that a call before has written are taken over."""
    everything, identity = embedded_numbers(context), _made_by(context)
    mine = shards.share(context, everything)
    numbers = sorted(number for some in mine.values() for number in some)
    if not everything:
        EmbeddingPart(context, numbers, 1, identity).mark(numbers)
        return
    embedder, pool = make_embedder(context), window_pool(context)
    vectors, scale_d = _vectors(context, embedder)
    dimensions = embedder.dimensions(vectors, pool.patch_size, len(context.data.dataset.channels))
    part = EmbeddingPart(context, numbers, dimensions, identity)
    shards.say_taken_over(len(part.complete), len(numbers), "embedded")
    left = shards.without(mine, part.complete)
    embedder.embed(pool, left, vectors, scale_d, part.vectors_N_d, part.row, NowAndThen(part.mark))
    part.mark(numbers)


def embed_merge(context: RoundContext) -> None:
    """Bring the shards' vectors into one file, in the order of `embedded_numbers`.

    Raises CampaignError if shards are missing or not of the round's present model; ModelError if a vector is not
    finite.
    """
    row = {number: index for index, number in enumerate(embedded_numbers(context))}
    identity = _made_by(context)
    found = [read_vectors(path, identity) for path in shards.part_files(context, "embedded")]
    parts = [part for part in found if part is not None]
    known = {number for part in parts for number in part.complete}
    if len(parts) < len(found) or not known.issuperset(row):
        shards.do_again(context, "embed")

    def join(out_N_d: np.ndarray) -> None:
        for part in parts:
            for number, index in part.complete.items():
                vector_d = part.vectors_N_d[index]
                if not np.isfinite(vector_d).all():
                    raise ModelError(
                        f"The vector of {context.regions[number].name} under the model "
                        f"{context.checkpoint(context.round)} is not finite: start another campaign with -tag and, for "
                        "example, -optimizer adamw."
                    )
                out_N_d[row[number]] = vector_d

    write_mapped_array(context.round.embeddings, (len(row), parts[0].vectors_N_d.shape[1]), join)
    shards.remove_others(context, "embed", "embedded", "embeddings")


def _made_by(context: RoundContext) -> str:
    fisher_files = [context.round.fisher] if context.decided.recipe.embedding == "fisher" else []
    return shards.made_by(context, context.checkpoint(context.round), *fisher_files)


def _vectors(context: RoundContext, embedder: Embedder) -> tuple[WindowVectors, Any]:
    """Return the function that describes windows by vectors, and the factor of each vector."""
    network, exclusive = embedder.network, embedder.exclusive
    recipe = context.decided.recipe
    if recipe.embedding == "features":
        flatten = recipe.parameters["pooling"] == "flatten"
        return lambda data, weight: bottleneck_features(network, data, weight, flatten), 1.0
    if recipe.embedding == "fisher":
        arrays = read_arrays(context.round.fisher)
        scale_d, heads = arrays.pop("scale_d"), int(arrays.pop("heads", 1))
        entries = {name.removeprefix("entries/"): part for name, part in arrays.items() if len(part)}
        return lambda data, weight: gradient_entries(network, data, weight, entries, exclusive, heads=heads), scale_d
    if recipe.embedding == "bottleneck_gradient":
        return _layer_gradient(context, embedder, bottleneck_convolution(network)), 1.0
    gradient = _layer_gradient(context, embedder, decoder_convolution(network), self_loss)

    def share_of_region(data: Any, weight: Any) -> Any:
        # the loss of a window is a mean over its own voxels: it counts by its share of the region
        return gradient(data, weight) * weight.flatten(1).sum(1, keepdim=True)

    return share_of_region, 1.0


def _layer_gradient(context: RoundContext, embedder: Embedder, layer: dict[str, Any], *objective: Any) -> WindowVectors:
    network, exclusive = embedder.network, embedder.exclusive
    parameters = context.decided.recipe.parameters
    ((name, module),) = layer.items()
    weights, size = module.weight.numel(), parameters["embedding_size"]
    compression = parameters["compression"]
    if compression == "auto":
        compression = "random" if module.weight.ndim == 5 else "truncate"
    if compression == "count_sketch" and size < weights:
        sketch = CountSketch(weights, size, context.rng("sketch"))
        return lambda data, weight: sketched_gradients(network, data, weight, layer, sketch, exclusive, *objective)
    if compression == "random" and size < weights:
        entries = {name: np.sort(context.rng("entries").choice(weights, size, replace=False))}
    else:
        entries = {name: np.arange(min(size, weights))}  # the paper's truncation
    return lambda data, weight: gradient_entries(network, data, weight, entries, exclusive, *objective)
