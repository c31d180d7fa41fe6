"""The ingredients beside metrics and selectors: posteriors, reductions, weightings, noises and embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nnunet_al.selection.query import QUERY_MODES
from nnunet_al.strategies.kinds import Embedding, Ingredient, Reduction
from nnunet_al.strategies.parameters import Parameter, choice, count, from_zero, number, or_none, or_quantile, positive
from nnunet_al.strategies.registry import selector

SAMPLING = ("mc_dropout", "tta", "ensemble")
POSTERIORS: Mapping[str, Ingredient] = MappingProxyType(
    {
        "none": Ingredient("no model"),
        "deterministic": Ingredient("a single forward pass"),
        "mc_dropout": Ingredient(
            "Monte Carlo dropout samples",
            "Gal and Ghahramani 2016",
            parameters={"passes": count(10, "samples T that predict each region")},
        ),
        "tta": Ingredient(
            "test-time augmentation samples (noise and rotation)",
            "Gaillochet et al. 2023",
            parameters={
                "passes": count(8, "samples T that predict each region"),
                "noise_variance": from_zero(1e-4, "variance of the noise, in noise_unit squared"),
                "noise_unit": choice(
                    ("percentiles", "normalised"),
                    "from the 1st to the 99th percentile of each image and channel, or the preprocessed image's unit",
                ),
                "plain_image": choice(("first", "none"), "whether the first sample is of the image as it is"),
                "max_angle": number(
                    10.0, "largest rotation in degrees", "from 0 to 180", lambda value: 0 <= value <= 180
                ),
            },
        ),
        "ensemble": Ingredient(
            "an ensemble of models",
            "Lakshminarayanan et al. 2017",
            parameters={
                "ensemble_of": choice(("rounds", "folds"), "whether members are models of earlier rounds or of folds"),
                "members": count(5, "models of the ensemble", least=2),
            },
        ),
    }
)

_OVER_SET = {
    "reduce": choice(("sum", "mean"), "sum over target and boundary, as in the paper, or mean, as in its code"),
    "empty_sets": choice(("skip", "zero"), "whether a region with an empty set leaves the ranking, or scores 0"),
    "foreground": choice(("roi", "all"), "probability of the classes of -roi_classes, if given, or of all foreground"),
}
TARGET = {
    "target_threshold": or_quantile(
        number(
            0.2,
            "foreground probability above which a voxel belongs to the target",
            "from 0 to below 1",
            lambda value: 0 <= value < 1,
        ),
        "the pool's probabilities",
    ),
    **_OVER_SET,
}
BOUNDARY = {
    "boundary_width": or_quantile(
        number(
            0.1,
            "distance of the foreground probability from 0.5 below which a voxel belongs to the boundary",
            "above 0, up to 0.5",
            lambda value: 0 < value <= 0.5,
        ),
        "the pool's distances",
    ),
    **_OVER_SET,
}
REDUCTIONS: Mapping[str, Reduction] = MappingProxyType(
    {
        "mean": Reduction("averaged over the region"),
        "localized": Reduction(
            "averaged over the predicted foreground and a rim around it",
            "Danaee et al. 2026",
            parameters={
                "dilation_mm": from_zero(3.0, "rim around the likely foreground in mm"),
                "likely_above": or_none(
                    number(0.1, "its probability", "from 0 to below 1", lambda value: 0 <= value < 1),
                    "the predicted foreground, as in the paper",
                    default=0.1,
                ),
            },
        ),
        "target": Reduction("summed over likely foreground", "Ma et al. 2024", parameters=TARGET),
        "boundary": Reduction("summed over the predicted boundary", "Ma et al. 2024", parameters=BOUNDARY),
        "class_weighted": Reduction(
            "averaged over the region with rare classes weighted up", "Föllmer et al. 2024", per_class=True
        ),
    }
)

WEIGHTINGS: Mapping[str, Ingredient] = MappingProxyType(
    {
        "fair": Ingredient(
            "weighted up for groups of cases that the model segments less well",
            "Danaee et al. 2026",
            parameters={
                "shrinkage": from_zero(
                    0.0, "cases without a deficit that are added to each group; 0: the paper's form"
                ),
                "largest_ratio": or_none(
                    number(
                        1.0,
                        "largest weight of a group, as a multiple of the smallest",
                        "from 1 to 1000000",
                        lambda value: 1 <= value <= 1_000_000,
                    ),
                    "any, as in the paper",
                ),
                "dice_of": choice(
                    ("held_out", "model"),
                    "annotated cases are measured by members of an ensemble of folds that were never trained on them, "
                    "if there is one for each case, or by the model",
                ),
            },
        )
    }
)

NOISES: Mapping[str, Ingredient] = MappingProxyType(
    {
        "power": Ingredient(
            "power noise (chances proportional to a power of the score)",
            "Kirsch et al. 2023",
            parameters={
                "beta": positive(1.0, "power of the score; larger is less noise"),
                "beta_end": or_none(
                    positive(1.0, "beta in the last planned round, reached geometrically"), "the same beta in all"
                ),
            },
        ),
        "softrank": Ingredient("softrank noise (chances inversely proportional to the rank)", "Kirsch et al. 2023"),
    }
)

_SIZE = {"embedding_size": count(10_000, "entries of a gradient embedding")}
_COMPRESSION = "entries of the gradient drawn at random, its first ones, or a sketch of all of it"
_GRADIENT = {**_SIZE, "compression": choice(("truncate", "random", "count_sketch"), _COMPRESSION)}
_BOTTLENECK = {
    **_SIZE,
    "compression": choice(
        ("auto", "truncate", "random", "count_sketch"), f"{_COMPRESSION}; auto: drawn in 3d, the first in 2d"
    ),
}
EMBEDDINGS: Mapping[str, Embedding] = MappingProxyType(
    {
        "bottleneck_gradient": Embedding(
            "the cosine similarity of their bottleneck gradients", cosine=True, parameters=_BOTTLENECK
        ),
        "fisher": Embedding(
            "the Fisher kernel of their gradients",
            phases=("fisher", "embed"),
            departs="the decoder's convolutions and all heads, as in the released code, though the lowest is never "
            "trained; the paper's text takes all parameters (layers=all heads=full); F is averaged over 200 regions, "
            "that of the code is of one (fisher_samples=1)",
            parameters={
                **_SIZE,
                "heads": choice(
                    ("all", "trained", "full"),
                    "outputs of deep supervision that the log-likelihood is summed over: all, those with a weight in "
                    "the loss, or the one of full resolution",
                ),
                "layers": choice(("decoder", "all"), "convolutions whose weights count"),
                "fisher_samples": count(200, "regions of the query set that the Fisher information is averaged over"),
                "damping": positive(
                    1e-3, "lambda of the Fisher kernel, as a multiple of the mean of F over the sampled parameters"
                ),
            },
        ),
        "features": Embedding(
            "their bottleneck features",
            backward=False,
            parameters={
                "pooling": choice(
                    ("mean", "flatten"), "features averaged over the region, or all of them (equal regions only)"
                )
            },
        ),
        "decoder_gradient": Embedding("the gradients of the decoder's last convolution", parameters=_GRADIENT),
    }
)

OF_KIND: Mapping[str, Mapping[str, Ingredient]] = MappingProxyType(
    {
        "posterior": POSTERIORS,
        "reduction": REDUCTIONS,
        "weighting": WEIGHTINGS,
        "noise": NOISES,
        "embedding": EMBEDDINGS,
    }
)
"""Field of a recipe -> its ingredients by name."""

# owner of the parameters of a query set, which is no ingredient: selectors and the Fisher information share one
QUERY = "query set"
_QUERY_PARAMETERS = {
    "query_mode": choice(QUERY_MODES, "how the query set is drawn (paper: appendix D)"),
    "query_size": or_none(count(1, "draws that make up the query set"), "the elbow of the scores"),
}

# owner of the parameters of a model that predicts its loss, which is no ingredient either
LOSS_MODULE = "loss module"
_LOSS_PARAMETERS = {
    "loss_features": choice(
        ("decoder", "encoder"), "features that the loss is predicted from; encoder: with the bottleneck"
    ),
    "loss_margin": from_zero(1.0, "smallest difference between the predictions of a ranked pair"),
}


def parameters_of(ingredient: str | None) -> Mapping[str, Parameter]:
    """Return the parameters of an ingredient; names are unique among the kinds of ingredients that take parameters."""
    if ingredient == QUERY:
        return _QUERY_PARAMETERS
    if ingredient == LOSS_MODULE:
        return _LOSS_PARAMETERS
    if ingredient is None:
        return {}
    known = next((kind[ingredient] for kind in OF_KIND.values() if ingredient in kind), None) or selector(ingredient)
    return {} if known is None else known.parameters
