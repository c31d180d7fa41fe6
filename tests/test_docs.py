"""The documentation: short where it should be, no broken link, and no command that would not be understood."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from argparse import ArgumentParser
from functools import cache
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

import pytest

import nnunet_al

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")
FILES = (*PAGES, *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
COMMANDS = sorted(
    path.stem
    for path in (Path(nnunet_al.__file__).parent / "cli").glob("*.py")
    if re.search(r"^(main = |def main\()", path.read_text(encoding="utf-8"), re.MULTILINE)
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def text_of(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def prose_of(file: str) -> str:
    return FENCE.sub("", text_of(file))


@cache
def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found: dict[str, int] = {}
    slugs = set()
    for heading in re.findall(r"^#+ +(.+?) *$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        words = LINK.sub(lambda link: link[0].partition("](")[0].lstrip("!["), heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        slugs.add(f"{slug}-{count}" if count else slug)
    return slugs


def is_broken(file: str, target: str) -> bool:
    if re.match(r"[a-z]+:", target):
        return False
    name, _, anchor = unquote(target).partition("#")
    path = (ROOT / file).parent / name if name else ROOT / file
    return not path.exists() or bool(anchor and anchor not in anchors(path.resolve()))


def bash_blocks() -> list[tuple[str, str]]:
    return [(file, code) for file in FILES for kind, code in FENCE.findall(text_of(file)) if kind == "bash"]


def command_lines(code: str) -> list[list[str]]:
    """The words of each simple command of a block, without comments and without the text of here-documents."""
    code = re.sub(r"<< *'?(\w+)'?\n.*?^\1$", "", code, flags=re.MULTILINE | re.DOTALL).replace("\\\n", " ")
    words = [shlex.split(part, comments=True) for line in code.splitlines() for part in re.split(r"&&|\||;", line)]
    return [line for line in words if line]


OURS = [
    pytest.param(line, id=f"{file}: {' '.join(line)}"[:100])
    for file, code in bash_blocks()
    for line in command_lines(code)
    if line[0].startswith("nnUNetv2_al_")
]


@cache
def parser_of(command: str) -> ArgumentParser:
    parser: ArgumentParser = import_module(f"nnunet_al.cli.{command}").build_parser()
    parser.allow_abbrev = False  # the beginning of an option's old name must not pass for the new one
    return parser


def test_the_readme_is_read_in_a_few_minutes():
    assert len(text_of("README.md").split()) <= 1300


@pytest.mark.parametrize("file", FILES)
def test_every_link_leads_somewhere(file):
    links = LINK.findall(prose_of(file))
    assert [target for target in links if is_broken(file, target)] == []


def test_a_broken_link_is_noticed():
    assert is_broken("README.md", "docs/no_such_page.md")
    assert is_broken("README.md", "docs/campaigns.md#no-such-heading")
    assert is_broken("README.md", "#no-such-heading")
    assert not is_broken("README.md", "docs/campaigns.md#files")
    assert not is_broken("docs/groups.md", "../benchmarks/README.md#fairness")


def test_every_page_is_named_in_the_readme():
    links = {target.partition("#")[0] for target in LINK.findall(text_of("README.md"))}
    assert {file for file in FILES if file.startswith("docs/")} <= links


def test_there_are_commands_to_look_at():
    assert len(OURS) >= 35
    assert len(COMMANDS) >= 14


@pytest.mark.parametrize("words", OURS)
def test_a_command_line_is_understood(words):
    code = 0
    try:
        parser_of(words[0].removeprefix("nnUNetv2_al_")).parse_args(words[1:])
    except SystemExit as end:  # 0 after -h
        code = end.code
    assert code == 0, f"{' '.join(words)} is not understood"


def test_every_command_is_documented():
    everything = "".join(map(text_of, FILES))
    assert [name for name in COMMANDS if f"nnUNetv2_al_{name}" not in everything] == []


@pytest.mark.parametrize("file", [file for file in FILES if file not in {"CHANGELOG.md", "benchmarks/README.md"}])
def test_an_option_in_the_text_is_one_of_a_command(file):
    options = {option for name in COMMANDS for action in parser_of(name)._actions for option in action.option_strings}
    spans = re.findall(r"`(--?[a-z]\w*)[^`]*`", prose_of(file))
    assert [span for span in spans if span not in options] == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_understands_every_block():
    for file, code in bash_blocks():
        run = subprocess.run(["bash", "-n"], input=code, capture_output=True, text=True, check=False)
        assert run.returncode == 0, f"{file}: {run.stderr}"


def test_every_script_of_a_block_exists():
    scripts = [
        word for _, code in bash_blocks() for line in command_lines(code) for word in line if word.endswith(".py")
    ]
    assert len(scripts) > 5
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


def test_the_wheel_carries_the_mark_of_its_type_hints():
    assert (Path(nnunet_al.__file__).parent / "py.typed").is_file()
