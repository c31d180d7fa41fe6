"""The order of the packages: each imports only what stands below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import nnunet_al

ROOT = Path(nnunet_al.__file__).parent
# from the top down
ORDER = [
    "cli",
    "report",
    "campaign",
    "annotation",
    "nnunet",
    "strategies",
    "evaluation",
    "scoring",
    "selection",
    "pool",
]
FOUNDATION = {
    "errors",
    "files",
    "seeding",
    "progress",
    "allocation",
    "memory",
    "new_folder",
    "file_locks",
    "stopping",
    "lazy",
    "__version__",
}
APART = {"synthetic": {"cli"}}  # package -> who may import it
SHIMS = {"dropin"}  # what an nnU-Net install is given; it only points at nnunet_al.nnunet
FILES = sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path) -> Iterator[str]:
    """Full names of everything that a file imports, at its top or inside functions."""
    package = ["nnunet_al", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    inside = path.relative_to(ROOT)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def test_every_package_has_its_place():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == {*ORDER, *APART, *SHIMS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_stands_below_it(path):
    part = part_of(path)
    for name in imports(path):
        root, _, inside = name.partition(".")
        if root == "nnunetv2":
            assert part == "nnunet", f"only nnunet_al.nnunet imports nnunetv2, but {path} imports {name}"
        if root != "nnunet_al" or not inside:
            continue
        other = inside.split(".")[0]
        if other == part or other in FOUNDATION:
            continue
        assert part not in FOUNDATION, f"{path} stands below everything, but imports {name}"
        if other in APART:
            assert part in APART[other], f"{path} imports {name}"
        elif part in SHIMS:
            assert other == "nnunet", f"{path} imports {name}"
        elif part not in APART:
            assert other not in SHIMS or part == "nnunet", f"{path} imports {name}"
            if other in ORDER:
                assert ORDER.index(part) < ORDER.index(other), f"{path} imports {name}, which stands above it"
        else:
            raise AssertionError(f"{path} stands apart, but imports {name}")


@pytest.mark.parametrize("part", ["scoring", "selection"])
def test_scoring_and_selection_know_arrays_only(part):
    for path in (ROOT / part).glob("*.py"):
        for name in imports(path):
            assert name.partition(".")[0] not in {"pathlib", "json", "SimpleITK", "nibabel", "blosc2"}, (
                f"{path}: {name}"
            )
            assert not name.startswith(("nnunet_al.files", "nnunet_al.pool")), f"{path}: {name}"


def test_no_module_is_much_longer_than_a_person_reads_at_once():
    longest = max(FILES, key=lambda path: len(path.read_text(encoding="utf-8").splitlines()))
    assert len(longest.read_text(encoding="utf-8").splitlines()) <= 330, longest
