"""Public names of a package, each loaded from its module at its first use."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


def publish(package: str) -> None:
    """Make the names that a package's ``__init__.pyi`` imports importable from the package, given by its ``__name__``.

    Commands import single modules of these packages and must not wait for all of them to load. Where a function has the
    name of its module, such as ``k_center`` in ``k_center.py``, the package's attribute is the function, whether or not
    the module has been imported before.
    """
    module = sys.modules[package]
    stub = Path(str(module.__file__)).with_suffix(".pyi")
    imports = [node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    module.__dict__["_home"] = {alias.name: str(node.module) for node in imports for alias in node.names}
    module.__dict__["__all__"] = sorted(module.__dict__["_home"])
    module.__class__ = _Package


class _Package(ModuleType):
    def __getattr__(self, name: str) -> Any:
        home = self.__dict__["_home"].get(name)
        if home is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{self.__name__}.{home}"), name)
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: object) -> None:
        # Python binds every imported module to its package, which would hide the public name
        if not (isinstance(value, ModuleType) and name in self.__dict__["_home"]):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__dict__["_home"]})
