"""More rounds for campaigns that run: recorded, and the same as if they had been planned from the start."""

from __future__ import annotations

import pytest
from tiny_rounds import TINY_ROUND, campaign_folder, outcome, run_command, run_round, snapshot

from nnunet_al.campaign.decisions import Decisions
from nnunet_al.cli import run

PLACE = TINY_ROUND.index("-s")


def run_many(*arguments: object) -> int:
    return run_command(run.main, *TINY_ROUND[:PLACE], *TINY_ROUND[PLACE + 2 :], *arguments)


def planned(roots) -> int:
    return Decisions.load(campaign_folder(roots) / "campaign.json").rounds


@pytest.fixture
def elsewhere(module_roots, tmp_path, monkeypatch):
    """The module's dataset with results of this test."""
    from nnunet_al.nnunet.environment import Roots

    (tmp_path / "results").mkdir()
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    return Roots.from_environment()


def test_a_run_of_more_rounds_goes_on(elsewhere, capsys):
    assert run_many("-s", "random", "-rounds", "1") == 0
    assert planned(elsewhere) == 1
    assert run_many("-s", "random", "-rounds", "2") == 0
    assert "now planned for 2 rounds, before for 1" in capsys.readouterr().out
    assert planned(elsewhere) == 2
    assert (campaign_folder(elsewhere) / "round_002" / "metrics.json").is_file()
    before = snapshot(elsewhere.results)
    assert run_many("-s", "random") == 0, "what it grew to"
    assert run_many("-s", "random", "-rounds", "1") == 2
    assert "-rounds 1 (started with 2)" in capsys.readouterr().err
    assert snapshot(elsewhere.results) == before


def test_rounds_that_were_planned_later_are_the_same(elsewhere):
    found = []
    for tag in ("from_the_start", "later"):
        assert run_round("-tag", tag, "-rounds", "1" if tag == "later" else "5") == 0
        assert run_round("-tag", tag, "-rounds", "5") == 0
        found.append(
            {n.partition(f"__{tag}/")[2]: v for n, v in outcome(elsewhere.results).items() if f"__{tag}/" in n}
        )
    for of in found:
        of.pop("fold_0/campaign.json")
    assert found[0] == found[1]


def test_a_call_that_has_nothing_else_to_do_writes_them_down(elsewhere, capsys):
    assert run_round("-rounds", "1") == 0
    assert run_round("-rounds", "7", "-round", "0") == 0
    assert "now planned for 7 rounds" in capsys.readouterr().out
    assert planned(elsewhere) == 7
    before = snapshot(elsewhere.results)
    assert run_round("-rounds", "7", "-round", "0") == 0
    assert snapshot(elsewhere.results) == before


def test_a_schedule_over_the_rounds_refuses_more_of_them(elsewhere, capsys):
    arguments = ("-s", "clasp_pe", "-passes", "2", "-rounds", "2")
    assert run_round(*arguments) == 0
    before = snapshot(elsewhere.results)
    assert run_round(*arguments[:-1], "3") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "over which clasp_pe changes beta from 1.0 to 100.0" in error
    assert run_many("-s", "clasp_pe", "-passes", "2", "-rounds", "3") == 2
    assert snapshot(elsewhere.results) == before
