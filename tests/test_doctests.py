"""The examples of the Python interface run, and what they import needs no nnU-Net."""

from __future__ import annotations

import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import FunctionType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("nnunet_al.scoring", "nnunet_al.selection", "nnunet_al.evaluation")

IMPORT_ALL = """
import sys
from importlib import import_module
from pkgutil import iter_modules

BLOCKED = {"nnunetv2", "batchgenerators", "batchgeneratorsv2", "dynamic_network_architectures", "acvl_utils"}


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocked())
for package in sys.argv[1:]:
    package = import_module(package)
    for name in package.__all__:
        getattr(package, name)
    for module in iter_modules(package.__path__, f"{package.__name__}."):
        import_module(module.name)
"""


def in_a_process(code: str, *arguments: str) -> str:
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("name", PACKAGES)
def test_the_examples_of_a_package_run(name):
    failures, examples = doctest.testmod(import_module(name))
    assert failures == 0
    assert examples > 3


def test_the_examples_of_the_page_run():
    failures, examples = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False, encoding="utf-8")
    assert failures == 0
    assert examples > 30


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_are_what_they_are_called_and_are_listed(name):
    package = import_module(name)
    for public in package.__all__:
        value = getattr(package, public)
        assert value.__name__ == public
        assert value.__doc__
        assert value.__module__.startswith(f"{name}.")
        assert f"`{public}`" in package.__doc__, f"{name} does not say that {public} is public"
        assert public in dir(package)
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name  # noqa: B018


def test_a_function_with_the_name_of_its_module_is_the_function_whatever_was_imported_before():
    import_module("nnunet_al.selection.top_k")
    from nnunet_al.selection import top_k

    assert isinstance(top_k, FunctionType)
    assert import_module("nnunet_al.selection.top_k").top_k is top_k


def test_the_three_packages_import_nothing_of_nnunet():
    in_a_process(IMPORT_ALL, *PACKAGES)


def test_only_what_is_used_is_loaded():
    loaded = "; print(*sorted({'torch', 'scipy', 'numpy'} & set(sys.modules)))"
    assert in_a_process(f"import sys, nnunet_al{loaded}").split() == []
    together = ", ".join(PACKAGES)
    assert in_a_process(f"import sys, {together}{loaded}").split() == []
    selectors = "from nnunet_al.selection import k_center, kmeans_plusplus, flqmi_gain_order, draw_query, top_k"
    assert in_a_process(f"import sys; {selectors}{loaded}").split() == ["numpy"]
    assert "torch" not in in_a_process(f"import sys; from nnunet_al.evaluation import *{loaded}")


def test_the_help_of_a_command_loads_no_torch():
    code = (
        "import sys\nfrom nnunet_al.cli.round import main\n"
        "try:\n    main(['-h'])\nexcept SystemExit:\n    pass\nprint('torch' in sys.modules)"
    )
    assert in_a_process(code).splitlines()[-1] == "False"
