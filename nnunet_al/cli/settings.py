"""Settings that are typed as NAME=VALUE."""

from __future__ import annotations

from typing import Any

from nnunet_al.errors import StrategyError


def recipe_parameters(settings: list[str]) -> dict[str, Any]:
    """Read ``name=value`` pairs; numbers become numbers.

    Raises StrategyError if a setting holds no "=", or a name stands twice.
    """
    parameters: dict[str, Any] = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise StrategyError(f"-set {setting}: write NAME=VALUE, for example eta=0.5.")
        if name in parameters:
            raise StrategyError(f"-set {setting}: '{name}' is set already, to {parameters[name]}; give it once.")
        parameters[name] = _number(text)
    return parameters


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
