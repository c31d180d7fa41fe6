"""The strategies as text: a list, an explanation of one, and the table of the documentation."""

from __future__ import annotations

from nnunet_al.strategies import catalog, registry
from nnunet_al.strategies.compatibility import known_parameters
from nnunet_al.strategies.grammar import ADDONS, KINDS, presets, spell
from nnunet_al.strategies.ingredients import EMBEDDINGS
from nnunet_al.strategies.recipe import Recipe

_COLUMNS = ("name", "recipe", "summary", "needs", "passes per region", "stored per region", "paper")


def table() -> str:
    """Return all strategies as plain text: a table, the problems of packages that do not load, and the add-ons."""
    recipes = (*catalog.CATALOG.values(), *catalog.of_packages().values())
    rows = [_COLUMNS, *(tuple(_row(recipe).values()) for recipe in recipes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    rows.insert(1, tuple("-" * width for width in widths))
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *registry.problems().values(), "", grammar()])


def markdown() -> str:
    """Return the built-in strategies as a Markdown table, for the documentation."""
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|{' --- |' * len(_COLUMNS)}"]
    for row in map(_row, catalog.CATALOG.values()):
        cells = {**row, "name": f"`{row['name']}`", "recipe": f"`{row['recipe']}`"}
        lines.append(f"| {' | '.join(cells.values())} |")
    return "\n".join(lines)


def grammar() -> str:
    """Return the grammar of spellings: the add-ons by kind."""
    lines = ["Strategies compose: METRIC[+ADDON...] or NAME[+ADDON...], in any order, at most one add-on of each kind:"]
    for kind in KINDS:
        names = [name for name, addon in ADDONS.items() if addon.kind == kind]
        if kind == "selector":
            names += [name for name in registry.selectors_of_packages() if name not in names]
        lines.append(f"  {kind:<11}{', '.join(names)}")
    return "\n".join(lines)


def explain(spelling: str) -> str:
    """Explain one strategy (a name, or ``BASE[+ADDON...]``) as plain text: recipe, phases and parameters.

    Raises StrategyError if there is no such strategy.
    """
    recipe = catalog.get(spelling)
    others = catalog.other_names(recipe)
    entries = {
        "recipe": recipe.spelling,
        "also": ", ".join(others),
        "needs": _needs(recipe),
        "phases": " > ".join((*recipe.phases(), "select")),
        "passes": f"{_passes(recipe)} over each region{_once(recipe)}",
        "stores": f"{_stored(recipe)} for each region",
        "paper": recipe.paper,
        "departs": EMBEDDINGS[recipe.embedding].departs if recipe.embedding else "",
    }
    lines = [f"{recipe.name}: {recipe.summary}"]
    lines += [f"  {key:<11}{value}" for key, value in entries.items() if value]
    if recipe.parameters:
        lines.append("  parameters (-set NAME=VALUE)")
    for key, known in known_parameters(recipe.ingredients).items():
        lines.append(f"    {key:<18}{_shown(recipe.parameters[key]):<13}{known.meaning}; {known.must_be}")
    return "\n".join(lines)


def _row(recipe: Recipe) -> dict[str, str]:
    costs = (_needs(recipe), _passes(recipe), _stored(recipe))
    return dict(zip(_COLUMNS, (recipe.name, _recipe(recipe), recipe.summary, *costs, recipe.paper), strict=True))


def _recipe(recipe: Recipe) -> str:
    """Return the recipe's spelling with the parameters that it does not imply; without a spelling, the ingredients."""
    settings = "".join(f" {name}={_shown(value)}" for name, value in presets(recipe).items())
    return (spell(recipe) or recipe.spelling) + settings


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower()


def _needs(recipe: Recipe) -> str:
    models = {"none": [], "mc_dropout": ["a model with dropout"], "ensemble": [f"{recipe.passes} models"]}
    parts = models.get(recipe.posterior, ["a model"])
    if recipe.trainer is not None:
        parts = [f"a model of {recipe.trainer}"]
    if recipe.embedding is not None:
        parts.append("gradients" if EMBEDDINGS[recipe.embedding].backward else "features")
    if recipe.weighting is not None:
        parts.append("groups of cases")
    return ", ".join(parts) or "nothing"


def _passes(recipe: Recipe) -> str:
    if recipe.embedding is None:
        return f"{recipe.passes} forward" if recipe.passes else "none"
    return f"{recipe.passes + 1} forward" + (", 1 backward" if EMBEDDINGS[recipe.embedding].backward else "")


def _once(recipe: Recipe) -> str:
    if "fisher" not in recipe.phases():
        return ""
    return f", 1 forward and 1 backward more over {recipe.parameters['fisher_samples']} of them"


def _stored(recipe: Recipe) -> str:
    """Return how many numbers are stored per region: size of the predicted foreground, scores, and embedding."""
    if not recipe.phases():
        return "none"
    scores = sum(name != "class_scores" for name in recipe.measures())
    parts = [str(1 + scores)]
    if "class_scores" in recipe.measures():
        parts.append("classes")
    if recipe.embedding is not None:
        parts.append(str(recipe.parameters.get("embedding_size", "channels")))
    return " + ".join(parts) + (" number" if parts == ["1"] else " numbers")
