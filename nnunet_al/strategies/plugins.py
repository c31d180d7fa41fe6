"""Strategies of other packages, by the entry points ``nnunet_al.strategies``.

A package's entry point loads to a ``Recipe``; its module registers the package's metrics and selectors before
(``registry.register``). Packages are loaded once, when a name that is not built in is looked up.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points

from nnunet_al.errors import StrategyError
from nnunet_al.strategies import catalog, registry
from nnunet_al.strategies.compatibility import checked
from nnunet_al.strategies.recipe import Recipe

GROUP = "nnunet_al.strategies"


def load() -> None:
    """Load all entry points, once; a package that looks up a name meanwhile finds only the names loaded so far."""
    registry.set_loader(lambda: None)  # from here on, looking up a name loads nothing
    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, _package(entry))):
        found.setdefault(entry.name, []).append(entry)
    for name, entries in found.items():
        if len({(entry.value, _package(entry)) for entry in entries}) > 1:
            packages = " and ".join(f"'{_package(entry)}'" for entry in entries)
            registry.note_problem(
                name, f"The packages {packages} both bring a strategy '{name}': uninstall one of them."
            )
            continue
        try:
            with registry.undone_on_failure():
                catalog.add(_recipe(entries[0]))
        except Exception as error:  # a broken package must not disable the strategies of others
            reason = " ".join(str(error).split()) or type(error).__name__
            registry.note_problem(
                name,
                f"The strategy '{name}' of the package '{_package(entries[0])}' does not load: {reason.rstrip('.')}.",
            )


def _recipe(entry: EntryPoint) -> Recipe:
    if registry.is_built_in(entry.name):
        raise StrategyError("this name is taken by a built-in strategy or add-on, so it needs another one")
    if not registry.NAME.fullmatch(entry.name):
        raise StrategyError("a name has letters, digits and single underscores")
    loaded = entry.load()
    if not isinstance(loaded, Recipe):
        raise StrategyError(f"{entry.value} is no Recipe")
    return checked(replace(loaded, name=entry.name))


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value.partition(":")[0]
