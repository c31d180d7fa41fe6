"""Checks that ingredients are compatible; every refusal is one sentence that names the conflict and a remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from nnunet_al.errors import StrategyError
from nnunet_al.strategies import registry
from nnunet_al.strategies.ingredients import EMBEDDINGS, OF_KIND, REDUCTIONS, SAMPLING, parameters_of
from nnunet_al.strategies.kinds import Metric, Selector
from nnunet_al.strategies.metrics import ENTROPIES, METRIC_ALIASES, METRICS
from nnunet_al.strategies.parameters import Parameter, completed
from nnunet_al.strategies.recipe import Recipe
from nnunet_al.strategies.selectors import SELECTORS

# of recipes that were written before these parameters were there; all others have the same default
_FORMER = {
    **{"heads": "full", "layers": "all", "compression": "truncate"},
    **{"likely_above": None, "empty_sets": "zero", "foreground": "all"},
    **{"dice_of": "model", "noise_unit": "normalised", "plain_image": "none"},
}


def checked(recipe: Recipe) -> Recipe:
    """Return the complete recipe, if its ingredients exist and are compatible.

    The entropy of averaged samples has one metric name for each posterior: ``mc_dropout`` for dropout samples,
    ``entropy`` for all others; and ``jsd`` is ``bald``. The metric gets that name, and parameters that are not given
    get their defaults.

    Raises StrategyError if an ingredient does not exist or is incompatible with the others, or a parameter is not
    allowed.
    """
    recipe = replace(recipe, metric=_one_name(recipe.metric, recipe.posterior))
    _check(recipe)
    known = known_parameters(recipe.ingredients)
    recipe = replace(recipe, parameters=completed(recipe.name, known, recipe.parameters))
    _check_passes(recipe)
    return recipe


def read(content: Mapping[str, Any]) -> Recipe:
    """Return the recipe that ``Recipe.to_json`` wrote; fields and parameters added since get what was done before them.

    Raises StrategyError if it was written by another version, or needs a package that is not installed.
    """
    recipe = Recipe.from_json(content)
    kinds = (recipe.embedding, recipe.reduction, recipe.selector, recipe.weighting, recipe.posterior)
    former = {name: value for name, value in _FORMER.items() if any(name in parameters_of(kind) for kind in kinds)}
    return checked(replace(recipe, parameters={**former, **recipe.parameters}))


def known_parameters(ingredients: Iterable[str | None]) -> dict[str, Parameter]:
    """Return the parameters of all ingredients."""
    return {name: known for ingredient in ingredients for name, known in parameters_of(ingredient).items()}


def _one_name(metric: str | None, posterior: str) -> str | None:
    if metric is None:
        return None
    metric = METRIC_ALIASES.get(metric, metric)
    if metric == "entropy" and posterior == "mc_dropout":
        return "mc_dropout"
    if metric == "mc_dropout" and posterior in SAMPLING and posterior != "mc_dropout":
        return "entropy"
    return metric


def _check(recipe: Recipe) -> None:
    selector = registry.selector(recipe.selector)
    if selector is None:
        _unknown(recipe, "selector", recipe.selector, SELECTORS)
    for kind, names in OF_KIND.items():
        value = getattr(recipe, kind)
        if (value is not None or kind == "posterior") and value not in names:
            _unknown(recipe, kind, value, names)
    metric = None if recipe.metric is None else registry.metric(recipe.metric)
    if recipe.metric is not None and metric is None:
        _unknown(recipe, "metric", recipe.metric, METRICS)
    for problem in _problems(recipe, selector, metric):
        raise StrategyError(f"The strategy '{recipe.name}' {problem}.")


def _check_passes(recipe: Recipe) -> None:
    """Refuse one sample where the metric compares samples with each other, since all its values would be 0."""
    metric = None if recipe.metric is None else registry.metric(recipe.metric)
    if metric is not None and metric.needs_samples and recipe.metric not in ENTROPIES and recipe.passes < 2:
        raise StrategyError(
            f"The strategy '{recipe.name}' compares samples by '{recipe.metric}', which says nothing of a single one: "
            "use passes from 2 on."
        )


def _problems(recipe: Recipe, selector: Selector, metric: Metric | None) -> Iterator[str]:
    """Yield the conflicts, the most basic one first; each check takes for granted that those before it found none."""
    yield from _of_metric(recipe, selector, metric)
    if metric is not None:
        yield from _of_reduction(recipe, selector, metric)
        yield from _of_samples(recipe, metric)
    yield from _of_embedding(recipe, selector)
    if recipe.noise is not None and not selector.noise:
        ranking = ", ".join(name for name, known in SELECTORS.items() if known.noise)
        yield (
            f"has the selector '{recipe.selector}', which does not rank, so that the noise '{recipe.noise}' does "
            f"nothing: leave it out, or use the selector {ranking}"
        )
    if recipe.weighting is not None and metric is None:
        yield f"has no scores that '{recipe.weighting}' could weight: use a strategy with a metric"
    if recipe.weighting is not None and metric is not None and metric.learned:
        yield (
            f"multiplies scores by '{recipe.weighting}', but those of '{recipe.metric}' may be negative: use another "
            "metric, for example entropy"
        )


def _of_metric(recipe: Recipe, selector: Selector, metric: Metric | None) -> Iterator[str]:
    its = f"has the selector '{recipe.selector}'"
    if selector.needs.metric and metric is None:
        yield f"{its}, which needs a metric: use one of {', '.join(METRICS)}"
    if metric is not None and not selector.needs.metric:
        yield f"{its}, which needs no metric: leave out '{recipe.metric}', or use the selector top_k"
    if metric is None and recipe.reduction is not None:
        yield f"has the reduction '{recipe.reduction}' and no metric to reduce: leave it out"
    if selector.needs.model == (recipe.posterior == "none"):
        wanted = "deterministic" if selector.needs.model else "none"
        yield f"{its} and the posterior '{recipe.posterior}', which do not go together: use the posterior {wanted}"
    if metric is None and recipe.posterior in SAMPLING:
        yield f"has no metric that could measure the samples of '{recipe.posterior}': use the posterior deterministic"


def _of_reduction(recipe: Recipe, selector: Selector, metric: Metric) -> Iterator[str]:
    its = f"has the selector '{recipe.selector}'"
    if selector.needs.pair and metric.per_class:
        yield (
            f"has the metric '{recipe.metric}', whose values are per class, and '{recipe.selector}' takes one "
            "value for each voxel: use another metric, for example bald"
        )
    if selector.needs.reduces:
        if recipe.reduction is not None:
            yield f"{its}, which sums over target and boundary by itself: leave out the reduction '{recipe.reduction}'"
    elif recipe.reduction is None:
        yield f"has no reduction for its metric '{recipe.metric}': use {metric.reduction}"
    elif REDUCTIONS[recipe.reduction].per_class != metric.per_class:
        values = "per class" if metric.per_class else "not per class"
        yield (
            f"cannot reduce the metric '{recipe.metric}', whose values are {values}, by '{recipe.reduction}': use "
            f"{metric.reduction}"
        )
    if metric.learned and (selector.needs.pair or recipe.reduction != "mean"):
        asked = recipe.reduction or recipe.selector
        yield f"asks for '{asked}' of '{recipe.metric}', which has no values for voxels: use the reduction mean"
    if selector.needs.class_scores and recipe.metric not in ENTROPIES:
        yield (
            f"{its}, which ranks each class by its entropy, so '{recipe.metric}' does not go with it: use the metric "
            "entropy or mc_dropout"
        )
    if selector.needs.class_scores and recipe.reduction != "mean":
        yield (
            f"{its}, whose classes are averaged over the region: use the reduction mean instead of '{recipe.reduction}'"
        )


def _of_samples(recipe: Recipe, metric: Metric) -> Iterator[str]:
    if metric.needs_samples and recipe.posterior not in SAMPLING:
        instead = ", or the metric entropy" if recipe.metric in ENTROPIES else ""
        yield f"needs posterior samples for '{recipe.metric}': use the posterior mc_dropout, tta or ensemble{instead}"
    if metric.learned and recipe.posterior != "deterministic":
        its = f"has the metric '{recipe.metric}'"
        yield f"{its}, which comes from one pass of the model: leave out '{recipe.posterior}'"
    if metric.learned and (recipe.draws_query or recipe.noise == "power"):
        drawing = recipe.noise if recipe.noise == "power" else recipe.selector
        instead = "softrank" if recipe.noise == "power" else "kmeans or stochastic_batches"
        yield (
            f"draws by '{drawing}' in proportion to the score, but that of '{recipe.metric}' may be negative: "
            f"use {instead}"
        )


def _of_embedding(recipe: Recipe, selector: Selector) -> Iterator[str]:
    its, known = f"has the selector '{recipe.selector}'", " or ".join(selector.embeddings or EMBEDDINGS)
    if recipe.embedding is None and selector.needs.embedding:
        yield f"{its}, which needs an embedding: use {known}"
    elif recipe.embedding is not None and not selector.needs.embedding:
        yield f"{its}, which needs no embedding: leave out '{recipe.embedding}'"
    elif recipe.embedding is not None and selector.embeddings and recipe.embedding not in selector.embeddings:
        yield f"{its}, which does not take the embedding '{recipe.embedding}': use {known}"
    if recipe.draws_query and not selector.needs.scores:
        kind = "selector" if selector.needs.query else "embedding"
        yield (
            f"has the {kind} '{getattr(recipe, kind)}', which works on a query set that is drawn by scores, and the "
            f"selector '{recipe.selector}' needs none: use a selector that needs scores too"
        )


def alike(name: str, known: Iterable[str]) -> str:
    """Return ``"did you mean a or b?"`` where names are spelled alike, else ``"use one of ..."``."""
    known = list(known)
    near = difflib.get_close_matches(name.lower(), known, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(known)}."


def _unknown(recipe: Recipe, kind: str, value: str | None, known: Iterable[str]) -> NoReturn:
    missing = "; ".join(sentence.rstrip(".") for sentence in registry.problems().values())
    where = f" ({missing})" if missing else ""
    raise StrategyError(
        f"The strategy '{recipe.name}' asks for the {kind} '{value}', which is not there{where}: "
        f"use one of {', '.join(known)}."
    )
