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
* baselines: `random_draw`, `random_foreground`, `evenly_spaced`

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

from nnunet_al.lazy import publish

publish(__name__)
