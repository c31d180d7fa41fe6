"""Every strategy that built-in ingredients can make up."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from nnunet_al.errors import StrategyError
from nnunet_al.strategies.catalog import get
from nnunet_al.strategies.grammar import ADDONS, KINDS
from nnunet_al.strategies.metrics import METRICS
from nnunet_al.strategies.recipe import Recipe
from nnunet_al.strategies.selectors import SELECTORS


def spellings() -> Iterator[str]:
    """Yield every selector without scores, and every metric with at most one add-on of each kind, sensible or not."""
    yield from (name for name, selector in SELECTORS.items() if not selector.needs.metric)
    by_kind = [["", *(f"+{name}" for name, addon in ADDONS.items() if addon.kind == kind)] for kind in KINDS]
    for metric, *addons in product(METRICS, *by_kind):
        yield metric + "".join(addons)


def combinations() -> Iterator[Recipe]:
    """Yield every sensible combination of built-in ingredients once, those of the catalog among them."""
    seen: set[str] = set()
    for spelling in spellings():
        try:
            recipe = get(spelling)
        except StrategyError:
            continue
        if recipe.name not in seen:
            seen.add(recipe.name)
            yield recipe
