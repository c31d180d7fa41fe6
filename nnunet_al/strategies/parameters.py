"""The parameters of recipes: their defaults, what they must be, and which ingredients they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from nnunet_al.errors import StrategyError
from nnunet_al.selection.flqmi import GREEDY
from nnunet_al.selection.query import QUERY_MODES

# far beyond all that makes sense, so that no arithmetic overflows and no array outgrows the memory
_SMALLEST, _LARGEST, _LARGEST_COUNT = 1e-6, 1_000_000, 10_000_000
# what takes the parameters of a query set: no ingredient, since selectors and the Fisher information share one
QUERY = "query set"


@dataclass(frozen=True)
class Parameter:
    """The test that a parameter's value must pass, that test in words, and what it means, with its unit."""

    accepts: Callable[[Any], bool]
    must_be: str
    meaning: str


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _count(meaning: str, least: int = 1) -> Parameter:
    return Parameter(
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST_COUNT,
        f"a whole number from {least} to {_LARGEST_COUNT}",
        meaning,
    )


def _choice(options: tuple[str, ...], meaning: str) -> Parameter:
    return Parameter(lambda value: value in options, f"one of {', '.join(options)}", meaning)


def _from_zero(meaning: str) -> Parameter:
    return Parameter(
        lambda value: _is_number(value) and 0 <= value <= _LARGEST, f"a number from 0 to {_LARGEST}", meaning
    )


def _positive(meaning: str) -> Parameter:
    return Parameter(
        lambda value: _is_number(value) and _SMALLEST <= value <= _LARGEST,
        f"a number from {_SMALLEST:f} to {_LARGEST}",
        meaning,
    )


def _share(meaning: str) -> Parameter:
    return Parameter(lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1", meaning)


def _or_none(parameter: Parameter, none_means: str) -> Parameter:
    return Parameter(
        lambda value: value is None or parameter.accepts(value),
        f"{parameter.must_be}, or none for {none_means}",
        parameter.meaning,
    )


PARAMETERS: Mapping[str, Parameter] = MappingProxyType(
    {
        "passes": _count("samples T that predict each region"),
        "noise_variance": _from_zero("variance of the noise on the normalised image"),
        "max_angle": Parameter(
            lambda value: _is_number(value) and 0 <= value <= 180,
            "a number from 0 to 180",
            "largest rotation in degrees",
        ),
        "ensemble_of": _choice(("rounds", "folds"), "whether members are models of earlier rounds or of folds"),
        "members": _count("models of the ensemble", least=2),
        "dilation_mm": _from_zero("rim around the predicted foreground in mm"),
        "target_threshold": Parameter(
            lambda value: _is_number(value) and 0 <= value < 1,
            "a number from 0 to below 1",
            "foreground probability above which a voxel belongs to the target",
        ),
        "boundary_width": Parameter(
            lambda value: _is_number(value) and 0 < value <= 0.5,
            "a number above 0, up to 0.5",
            "distance of the foreground probability from 0.5 below which a voxel belongs to the boundary",
        ),
        "beta": _positive("power of the score; larger is less noise"),
        "beta_end": _or_none(
            _positive("beta in the last planned round, reached geometrically"), "the same beta in all"
        ),
        "num_batches": _or_none(_count("random batches that are compared"), "as many as the pool can be cut into"),
        "share": _share("part of the batch that is drawn from regions with predicted foreground"),
        "class_share": _share("part of the batch that is split evenly over the foreground classes"),
        "per_case": _positive("most uncertain regions kept of each case, as a multiple of the budget"),
        "pooling": _choice(
            ("mean", "flatten"), "features averaged over the region, or all of them (equal regions only)"
        ),
        "embedding_size": _count("entries of a gradient embedding"),
        "compression": _choice(("truncate", "count_sketch"), "first entries of the gradient, or a sketch of all of it"),
        "fisher_samples": _count("regions of the query set that the Fisher information is averaged over"),
        "damping": _positive("lambda of the Fisher kernel, as a multiple of the mean of F over the sampled parameters"),
        "query_mode": _choice(QUERY_MODES, "how the query set is drawn (paper: appendix D)"),
        "query_size": _or_none(_count("draws that make up the query set"), "the elbow of the scores"),
        "eta": _from_zero("weight of relevance to the query set against its coverage"),
        "epsilon": Parameter(
            lambda value: _is_number(value) and _SMALLEST <= value < 1,
            f"a number from {_SMALLEST:f} to below 1",
            "stochastic greedy looks at floor(N/B ln(1/epsilon)) regions a step",
        ),
        "greedy": _choice(GREEDY, "whether a step looks at a sample or at all regions"),
    }
)

# what an ingredient takes, with its defaults; no two kinds of ingredients that take parameters share a name
PARAMETERS_OF: Mapping[str | None, Mapping[str, Any]] = MappingProxyType(
    {
        "mc_dropout": {"passes": 10},
        "tta": {"passes": 8, "noise_variance": 0.01, "max_angle": 10.0},
        "ensemble": {"ensemble_of": "rounds", "members": 5},
        "localized": {"dilation_mm": 3.0},
        "target": {"target_threshold": 0.2},
        "boundary": {"boundary_width": 0.1},
        "bottleneck_gradient": {"embedding_size": 10_000, "compression": "truncate"},
        "decoder_gradient": {"embedding_size": 10_000, "compression": "truncate"},
        "fisher": {"embedding_size": 10_000, "fisher_samples": 200, "damping": 1e-3},
        "features": {"pooling": "mean"},
        "power": {"beta": 1.0, "beta_end": None},
        "stochastic_batches": {"num_batches": None},
        "selective": {"target_threshold": 0.2, "boundary_width": 0.1},
        "class_balanced": {"class_share": 0.66},
        "kmeans": {"per_case": 2.0},
        "random_foreground": {"share": 1 / 3},
        QUERY: {"query_mode": "uncertainty", "query_size": None},
        "flqmi": {"eta": 1.0, "epsilon": 0.01, "greedy": "stochastic"},
    }
)


def defaults(ingredients: tuple[str | None, ...]) -> dict[str, Any]:
    """Return every parameter that the ingredients take, with its default."""
    return {name: value for ingredient in ingredients for name, value in PARAMETERS_OF.get(ingredient, {}).items()}


def complete(strategy: str, ingredients: tuple[str | None, ...], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return every parameter that the ingredients take: those given, and the defaults of the others; read-only.

    The word ``"none"`` stands for None where None will do, since a command line has words only.

    Raises
    ------
    StrategyError
        if a parameter is given that the strategy does not take, or a value that does not do.
    """
    completed = defaults(ingredients)
    for name, value in given.items():
        if name not in completed:
            takes = f"it takes {', '.join(completed)}" if completed else "it takes none"
            raise StrategyError(f"The strategy '{strategy}' has no parameter '{name}': {takes}.")
        parameter = PARAMETERS[name]
        if value == "none" and parameter.accepts(None):
            value = None
        if not parameter.accepts(value):
            raise StrategyError(
                f"The parameter '{name}' of the strategy '{strategy}' is {value!r}: use {parameter.must_be}."
            )
        completed[name] = value
    return MappingProxyType(completed)
