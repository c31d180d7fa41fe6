"""Every strategy by name: its recipe and its paper. A new one is an entry of a few lines."""

from __future__ import annotations

import difflib

from nnunet_al.errors import StrategyError
from nnunet_al.strategies.parameters import PARAMETERS
from nnunet_al.strategies.recipe import Recipe

_USIM = "Föllmer et al. 2024, MIDL"

_RECIPES = (
    Recipe("random", "uniform draw, the baseline; asks no model", "-", selector="random"),
    Recipe(
        "random_foreground",
        "a share of the batch from regions with predicted foreground, the rest uniform",
        "Lüth et al. 2025, nnActive",
        posterior="deterministic",
        selector="random_foreground",
    ),
    Recipe(
        "entropy",
        "largest mean entropy of one prediction",
        "Shannon 1948",
        metric="entropy",
        reduction="mean",
        posterior="deterministic",
        selector="top_k",
    ),
    Recipe(
        "mc_dropout",
        "largest mean entropy of the averaged dropout predictions",
        "Gal and Ghahramani 2016",
        metric="mc_dropout",
        reduction="mean",
        posterior="mc_dropout",
        selector="top_k",
    ),
    Recipe(
        "mean_std",
        "largest mean standard deviation of dropout predictions, averaged over classes",
        "Kendall et al. 2017",
        metric="mean_std",
        reduction="mean",
        posterior="mc_dropout",
        selector="top_k",
    ),
    Recipe(
        "bald",
        "largest mean mutual information of prediction and model",
        "Gal et al. 2017",
        metric="bald",
        reduction="mean",
        posterior="mc_dropout",
        selector="top_k",
    ),
    Recipe(
        "usimc",
        "covers regions drawn by class-weighted variance, by the cosine of bottleneck gradients",
        _USIM,
        metric="class_variance",
        reduction="class_weighted",
        posterior="mc_dropout",
        embedding="bottleneck_gradient",
        selector="flqmi",
    ),
    Recipe(
        "usimf",
        "covers regions drawn by class-weighted variance, by the Fisher kernel of all gradients",
        _USIM,
        metric="class_variance",
        reduction="class_weighted",
        posterior="mc_dropout",
        embedding="fisher",
        selector="flqmi",
    ),
)

CATALOG: dict[str, Recipe] = {recipe.name: recipe for recipe in _RECIPES}


def get(name: str) -> Recipe:
    """Return the recipe of a strategy.

    Raises
    ------
    StrategyError
        if there is none of that name; the sentence offers those that are spelled alike.
    """
    if name in CATALOG:
        return CATALOG[name]
    alike = difflib.get_close_matches(name.lower(), CATALOG, n=3)
    offer = f"did you mean {' or '.join(alike)}?" if alike else f"use one of {', '.join(CATALOG)}."
    raise StrategyError(f"There is no strategy '{name}': {offer} nnUNetv2_al_strategies explains all of them.")


def table() -> str:
    """Return all strategies as a plain-text table, one line each."""
    head = ("name", "recipe", "passes", "gradients", "paper", "summary")
    rows = [head, *(_row(recipe) for recipe in CATALOG.values())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def explain(name: str) -> str:
    """Return everything about one strategy as plain text: recipe, phases and parameters with their defaults.

    Raises
    ------
    StrategyError
        if there is none of that name.
    """
    recipe = get(name)
    entries = {
        "recipe": recipe.spelling,
        "posterior": f"{recipe.posterior}, {recipe.passes} forward passes",
        "phases": " > ".join((*recipe.phases(), "select")),
        "paper": recipe.paper,
    }
    lines = [f"{recipe.name}: {recipe.summary}", *(f"  {key:<11}{value}" for key, value in entries.items())]
    if recipe.parameters:
        lines.append("  parameters")
    for key, value in recipe.parameters.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value).lower()
        lines.append(f"    {key:<16}{shown:<13}{PARAMETERS[key].meaning}; {PARAMETERS[key].must_be}")
    return "\n".join(lines)


def _row(recipe: Recipe) -> tuple[str, ...]:
    gradients = "yes" if recipe.embedding else "no"
    return (recipe.name, recipe.spelling, str(recipe.passes), gradients, recipe.paper, recipe.summary)
