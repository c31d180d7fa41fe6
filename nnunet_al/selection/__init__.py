"""From scores or embeddings to a batch: pure functions of numpy arrays, for any network or none.

Every selector returns a `Selection`: ``indices_B`` into the pool, in the order of choice, and ``gains_B``, the gain of
each choice. All selectors take these arguments in the same sense: ``names_N``, the regions' unique names, which break
ties and by which the pool is sorted before a draw, so that its order has no effect; ``budget``, B, the number of
regions, where a smaller pool is returned whole; ``scores_N``, finite, larger is more informative; ``embeddings_N_d``,
finite, perhaps memory-mapped; and ``rng``, a numpy generator, the only source of randomness. Public are:

* rankings: `top_k`, `stochastic_batches`, `selective_union`, `class_balanced`, with `power_noise` and `softrank_noise`
  for their argument ``keys``
* embeddings: `k_center` (core-set), `kmeans_plusplus` (BADGE's seeding), `kmeans_uncertain`
* USIM: `draw_query` and `flqmi_gain_order`, `query_sampling`; `QuerySet`
* baselines: `random_draw`, `random_foreground`

>>> import numpy as np
>>> from nnunet_al.selection import k_center, top_k
>>> names_N = ["a", "b", "c", "d"]
>>> top_k(np.array([0.1, 0.9, 0.9, 0.3]), names_N, budget=2).indices_B.tolist()
[1, 2]

Core-set, with the first region already annotated:

>>> embeddings_N_d = np.array([[0.0, 0.0], [0.0, 1.0], [4.0, 0.0], [0.0, 3.0]])
>>> chosen = k_center(embeddings_N_d, names_N, budget=2, references_M_d=embeddings_N_d[:1])
>>> chosen.indices_B.tolist(), chosen.gains_B.tolist()
([2, 3], [4.0, 3.0])
"""

from typing import TYPE_CHECKING

from nnunet_al.lazy import publish

if TYPE_CHECKING:
    from nnunet_al.selection.class_balanced import class_balanced as class_balanced
    from nnunet_al.selection.flqmi import flqmi_gain_order as flqmi_gain_order
    from nnunet_al.selection.k_center import k_center as k_center
    from nnunet_al.selection.kmeans_plusplus import kmeans_plusplus as kmeans_plusplus
    from nnunet_al.selection.kmeans_uncertain import kmeans_uncertain as kmeans_uncertain
    from nnunet_al.selection.query import QuerySet as QuerySet, draw_query as draw_query
    from nnunet_al.selection.query_sampling import query_sampling as query_sampling
    from nnunet_al.selection.random_draw import random_draw as random_draw, random_foreground as random_foreground
    from nnunet_al.selection.ranking_noise import power_noise as power_noise, softrank_noise as softrank_noise
    from nnunet_al.selection.selection import Selection as Selection
    from nnunet_al.selection.selective import selective_union as selective_union
    from nnunet_al.selection.stochastic_batches import stochastic_batches as stochastic_batches
    from nnunet_al.selection.top_k import top_k as top_k

publish(
    __name__,
    {
        "class_balanced": ("class_balanced",),
        "flqmi": ("flqmi_gain_order",),
        "k_center": ("k_center",),
        "kmeans_plusplus": ("kmeans_plusplus",),
        "kmeans_uncertain": ("kmeans_uncertain",),
        "query": ("QuerySet", "draw_query"),
        "query_sampling": ("query_sampling",),
        "random_draw": ("random_draw", "random_foreground"),
        "ranking_noise": ("power_noise", "softrank_noise"),
        "selection": ("Selection",),
        "selective": ("selective_union",),
        "stochastic_batches": ("stochastic_batches",),
        "top_k": ("top_k",),
    },
)
