"""The list of strategies, in the command and in the documentation."""

import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from tiny_rounds import run_command

from nnunet_al.cli import strategies
from nnunet_al.strategies.catalog import CATALOG
from nnunet_al.strategies.grammar import ADDONS, KINDS

ROOT = Path(__file__).parents[2]


def test_the_command_lists_every_strategy_and_explains_each(capsys):
    assert run_command(strategies.main) == 0
    table = capsys.readouterr().out
    for name, recipe in CATALOG.items():
        line = re.search(rf"^{name}\s.*$", table, re.MULTILINE)
        assert line is not None
        assert recipe.paper in line.group()
        assert run_command(strategies.main, name) == 0
        explained = capsys.readouterr().out
        for part in (recipe.summary, recipe.spelling, recipe.paper, *recipe.parameters, *recipe.phases()):
            assert part in explained
    assert run_command(strategies.main, "usimff") == 2
    assert "usimf" in capsys.readouterr().err


def test_the_list_ends_with_the_addons_by_kind(capsys):
    assert run_command(strategies.main) == 0
    end = capsys.readouterr().out.splitlines()[-len(KINDS) :]
    assert [line.split()[0] for line in end] == list(KINDS)
    assert {name.strip(",") for line in end for name in line.split()[1:]} == set(ADDONS)


def test_the_command_explains_composed_spellings(capsys):
    assert run_command(strategies.main, "jsd+tta") == 0
    text = capsys.readouterr().out
    assert text.startswith("tta: ")
    assert "also       bald+tta" in text
    assert run_command(strategies.main, "usimf+power") == 2
    assert "does not rank" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, passes, stored",
    [
        ("random", "none", "none"),
        ("random_foreground", "1 forward", "1 number"),
        ("selective", "1 forward", "4 numbers"),
        ("usimc", "11 forward, 1 backward", "2 + 10000 numbers"),
        ("core_set", "2 forward", "1 + channels numbers"),
        ("clasp_pe", "10 forward", "2 + classes numbers"),
    ],
)
def test_costs_come_from_the_recipe(name, passes, stored, capsys):
    assert run_command(strategies.main, "--markdown") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(f"| `{name}` |"))
    cells = [cell.strip() for cell in line.split("|")]
    assert passes in cells
    assert stored in cells


def test_the_documentation_has_the_very_table_of_the_command(capsys):
    assert run_command(strategies.main, "--markdown") == 0
    page = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    table = page.partition("<!-- strategies -->\n")[2].partition("<!-- /strategies -->")[0]
    assert table == capsys.readouterr().out


def test_every_command_of_the_package_can_be_imported_and_describes_itself():
    commands = [script for script in entry_points(group="console_scripts") if script.name.startswith("nnUNetv2_al_")]
    assert len(commands) >= 8
    for command in commands:
        assert callable(command.load())
        assert import_module(command.module).build_parser().prog == command.name


def test_a_reader_that_has_seen_enough_gets_no_traceback():
    command = Path(sys.executable).with_name("nnUNetv2_al_strategies")
    with subprocess.Popen([command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as call:
        call.stdout.close()
        assert call.stderr.read() == b""
        assert call.wait() == 141
