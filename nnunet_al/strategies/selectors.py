"""The built-in selectors: a new one is an entry here and its function in ``selection``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nnunet_al.selection.flqmi import GREEDY
from nnunet_al.strategies.ingredients import BOUNDARY, TARGET
from nnunet_al.strategies.kinds import Needs, Selector
from nnunet_al.strategies.parameters import choice, count, from_zero, number, or_none, positive, share
from nnunet_al.strategies.registry import register

SELECTORS: Mapping[str, Selector] = MappingProxyType(
    {
        "top_k": Selector(
            "nnunet_al.selection.top_k:top_k", Needs(scores=True), "the regions with the highest {score}", noise=True
        ),
        "stochastic_batches": Selector(
            "nnunet_al.selection.stochastic_batches:stochastic_batches",
            Needs(scores=True),
            "the random batch, out of many, with the highest mean {score}",
            "Gaillochet et al. 2023",
            parameters={
                "num_batches": or_none(
                    count(1, "random batches that are compared"), "as many as the pool can be cut into"
                )
            },
        ),
        "selective": Selector(
            "nnunet_al.selection.selective:selective_union",
            Needs(pair=True),
            "half of the batch by the {score} summed over likely foreground and half by its sum over the predicted "
            "boundary",
            "Ma et al. 2024",
            noise=True,
            parameters={**TARGET, **BOUNDARY},
        ),
        "class_balanced": Selector(
            "nnunet_al.selection.class_balanced:class_balanced",
            Needs(scores=True, class_scores=True),
            "a share of the batch in equal parts by the entropy of each foreground class and the rest by the {score}",
            "Lüth, Traub et al. 2026",
            noise=True,
            parameters={
                "class_share": share(0.66, "part of the batch that is split evenly over the foreground classes")
            },
        ),
        "core_set": Selector(
            "nnunet_al.selection.k_center:k_center",
            Needs(embedding=True, references=True),
            "regions so that every region of the pool is close to an annotated one (core-set)",
            "Sener and Savarese 2018",
            ("features",),
        ),
        "badge": Selector(
            "nnunet_al.selection.kmeans_plusplus:kmeans_plusplus",
            Needs(embedding=True),
            "diverse regions with large gradients by k-means++ seeding (BADGE)",
            "Ash et al. 2020",
            ("decoder_gradient",),
        ),
        "kmeans": Selector(
            "nnunet_al.selection.kmeans_uncertain:kmeans_uncertain",
            Needs(scores=True, embedding=True),
            "diverse regions, by k-means++ seeding, among those of each case with the highest {score}",
            "Lüth et al. 2025",
            ("features",),
            parameters={
                "per_case": positive(2.0, "most uncertain regions kept of each case, as a multiple of the budget")
            },
        ),
        "flqmi": Selector(
            "nnunet_al.selection.flqmi:flqmi",
            Needs(scores=True, embedding=True, query=True),
            "regions that represent, by facility location mutual information, a query set drawn in proportion to "
            "the {score}",
            "Föllmer et al. 2024",
            ("bottleneck_gradient", "fisher"),
            parameters={
                "eta": from_zero(1.0, "weight of relevance to the query set against its coverage"),
                "epsilon": number(
                    0.01,
                    "stochastic greedy looks at floor(N/B ln(1/epsilon)) regions a step",
                    "from 0.000001 to below 1",
                    lambda value: 1e-6 <= value < 1,
                ),
                "greedy": choice(GREEDY, "whether a step looks at a sample or at all regions"),
            },
        ),
        "query_sampling": Selector(
            "nnunet_al.selection.query_sampling:query_sampling",
            Needs(scores=True, query=True),
            "regions uniformly at random from a query set drawn in proportion to the {score}",
            "Föllmer et al. 2024, appendix E",
        ),
        "random": Selector("nnunet_al.selection.random_draw:random_draw", Needs(), "regions uniformly at random"),
        "evenly_spaced": Selector(
            "nnunet_al.selection.evenly_spaced:evenly_spaced",
            Needs(places=True),
            "regions at even distances over all cases, between those that are annotated",
        ),
        "random_foreground": Selector(
            "nnunet_al.selection.random_draw:random_foreground",
            Needs(foreground=True),
            "a share of the batch from regions with predicted foreground and the rest uniformly at random",
            "Lüth et al. 2025",
            parameters={
                "share": share(1 / 3, "part of the batch that is drawn from regions with predicted foreground")
            },
        ),
    }
)

for _name, _selector in SELECTORS.items():
    register(_name, _selector)
