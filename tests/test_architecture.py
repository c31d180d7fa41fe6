"""The order of the packages: each imports only what stands below it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import nnunet_al

ROOT = Path(nnunet_al.__file__).parent
# from the top down
ORDER = [
    "cli",
    "report",
    "jobs",
    "collecting",
    "rounds",
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
    "checksums",
    "seeding",
    "terminal",
    "allocation",
    "memory",
    "new_folder",
    "file_locks",
    "stopping",
    "lazy",
    "settings",
    "text",
    "user_files",
    "__version__",
}
APART = {"synthetic": {"cli"}}  # package -> who may import it
SHIMS = {"dropin"}  # what an nnU-Net install is given; it only points at nnunet_al.nnunet
FILES = sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path) -> Iterator[str]:
    """Full names of everything that a file imports, at its top or inside functions."""
    yield from names_in(ast.walk(ast.parse(path.read_text(encoding="utf-8"))), path)


def names_in(nodes: Iterable[ast.AST], path: Path) -> Iterator[str]:
    """Full names of everything that these statements of a file import."""
    package = ["nnunet_al", *path.relative_to(ROOT).parent.parts]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imported_files(path: Path) -> Iterator[Path]:
    """The files of ours that a file imports, at its top or inside functions, but not for type checkers only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_checkers = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    nodes = [node for node in ast.walk(tree) if id(node) not in for_checkers]
    for name in names_in(nodes, path):
        found = file_of(name)
        if found is not None and found != path:
            yield found


def file_of(name: str) -> Path | None:
    """The file of a module, or of the module that has this name in it; None for what is not ours."""
    root, *inside = name.split(".")
    while root == "nnunet_al" and inside:
        stem = ROOT.joinpath(*inside)
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if file.is_file():
                return file
        inside.pop()
    return None


def circles(graph: dict[Path, set[Path]]) -> list[list[Path]]:
    """Groups of files of which each imports the others, directly or through others (Tarjan's strong components)."""
    number: dict[Path, int] = {}
    lowest: dict[Path, int] = {}
    stack: list[Path] = []
    found: list[list[Path]] = []

    def visit(path: Path) -> None:
        number[path] = lowest[path] = len(number)
        stack.append(path)
        for other in sorted(graph[path]):
            if other not in number:
                visit(other)
                lowest[path] = min(lowest[path], lowest[other])
            elif other in stack:
                lowest[path] = min(lowest[path], number[other])
        if lowest[path] == number[path]:
            together = stack[stack.index(path) :]
            del stack[stack.index(path) :]
            if len(together) > 1:
                found.append(sorted(together))

    for path in graph:
        if path not in number:
            visit(path)
    return found


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


def test_no_files_import_each_other_in_a_circle():
    found = circles({path: set(imported_files(path)) for path in FILES})
    assert not found, [[str(path.relative_to(ROOT)) for path in circle] for circle in found]


def test_a_circle_is_found_when_there_is_one():
    a, b, c, d = (Path(name) for name in "abcd")
    assert circles({a: {b}, b: {c}, c: {a}, d: {a}}) == [[a, b, c]]
    assert not circles({a: {b, c}, b: {d}, c: {d}, d: set()})


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


REPORT = ["reading", "tables", "drawing", "evidence", "page"]  # from the bottom up


def test_each_package_of_the_report_imports_only_those_below_it():
    packages = {path.parent.name for path in (ROOT / "report").glob("*/__init__.py")}
    assert packages == set(REPORT)
    for path in (ROOT / "report").glob("*/*.py"):
        below = REPORT[: REPORT.index(path.parent.name) + 1]
        for name in imports(path):
            if name.startswith("nnunet_al.report."):
                assert name.split(".")[2] in below, f"{path} imports {name}, which stands above it"
