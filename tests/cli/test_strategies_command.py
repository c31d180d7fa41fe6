"""The list of strategies, in the command and in the README."""

import re
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from rounds import run_command

from nnunet_al.cli import strategies
from nnunet_al.strategies.catalog import CATALOG

ROOT = Path(__file__).parents[2]


def test_the_command_lists_every_strategy_and_explains_each(capsys):
    assert run_command(strategies.main) == 0
    table = capsys.readouterr().out
    for name, recipe in CATALOG.items():
        assert re.search(rf"^{name}\s", table, re.MULTILINE)
        assert run_command(strategies.main, name) == 0
        assert recipe.summary in capsys.readouterr().out
    assert run_command(strategies.main, "usimff") == 2
    assert "usimf" in capsys.readouterr().err


def test_the_readme_lists_the_same_strategies():
    section = (ROOT / "README.md").read_text().partition("## Strategies")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == set(CATALOG)


def test_every_command_of_the_package_can_be_imported_and_describes_itself():
    commands = [script for script in entry_points(group="console_scripts") if script.name.startswith("nnUNetv2_al_")]
    assert len(commands) >= 8
    for command in commands:
        assert callable(command.load())
        assert import_module(command.module).build_parser().prog == command.name
