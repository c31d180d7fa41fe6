"""The phases of a round, one call each, come to what one call for the whole round comes to."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tiny_rounds import TINY_USIMF, campaign_folder, run_round, snapshot

from nnunet_al.campaign.stages import PHASES, phases_of
from nnunet_al.files import read_arrays, read_json
from nnunet_al.rounds import network_delay, phase
from nnunet_al.strategies import catalog

USIMF = ("prepare", "train", "evaluate", "score 1", "score 0", "fisher", "embed 0", "embed 1", "select")
SHARING = """
import sys
from pathlib import Path
from nnunet_al.campaign.lock import shared_lock
with shared_lock(Path(sys.argv[1]), "evaluate"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    monkeypatch.setattr(network_delay, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(phase, "PATIENCE_SECONDS", 0.0)


def hold_share(lock: Path) -> subprocess.Popen:
    """Let another process evaluate, until it gets a line."""
    command = [sys.executable, "-c", SHARING, str(lock)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    return holder


def run_phase(name: str, number: int = 1, *more: str, strategy: str = "usimf") -> int:
    """Do a phase; "score 1" is its second shard."""
    name, _, part = name.partition(" ")
    shard = ("-num_parts", "2", "-part_id", part) if part else ()
    return run_round("-s", strategy, "-round", number, "-phase", name, *shard, *more)


def outcome(campaign: Path) -> dict[str, Any]:
    round_ = campaign / "round_001"
    metrics = read_json(round_ / "metrics.json")
    scores = read_arrays(round_ / "scores.npz")
    return {
        "batch": read_json(round_ / "batch.json")["regions"],
        "metrics": {key: value for key, value in metrics.items() if key != "checkpoint"},
        "scores": {name: array.tolist() for name, array in scores.items()},
        "results": (campaign / "results.csv").read_text(),
        "stages": sorted(path.stem for path in round_.glob("stages/*.json") if "_part_" not in path.stem),
        "ledger": [path.name for path in sorted((campaign / "ledger").rglob("*"))],
    }


def test_phases_in_shards_come_to_the_same_as_one_call(make_roots, capsys):
    whole = make_roots()
    assert run_round(*TINY_USIMF) == 0
    assert run_round("-s", "usimf") == 0
    expected = outcome(campaign_folder(whole))

    roots = make_roots()
    assert run_round(*TINY_USIMF) == 0
    campaign = campaign_folder(roots)
    for name in USIMF:
        # evaluation may take hours, beside all that does not wait for it
        holder = hold_share(campaign / "lock") if name in {"score 0", "fisher", "embed 0"} else None
        assert run_phase(name) == 0, name
        if holder:
            holder.communicate("\n")
        before = snapshot(campaign)
        capsys.readouterr()
        assert run_phase(name) == 0, f"{name} again"
        assert "done already" in capsys.readouterr().out
        assert snapshot(campaign) == before, f"{name} again"
    assert outcome(campaign) == expected
    assert run_round("-s", "usimf", "-round", "1") == 0


def test_a_phase_before_its_time_is_refused_and_changes_nothing(roots, capsys):
    assert run_phase("train") == 2
    assert "has not begun; start it with -round 0" in capsys.readouterr().err
    assert run_round(*TINY_USIMF) == 0
    assert run_phase("prepare", 2) == 2
    assert "round 1 of" in capsys.readouterr().err
    for done, early, missing in [
        (None, "train", "prepare"),
        ("prepare", "score 0", "train"),
        ("train", "fisher", "score"),
        ("score 0", "fisher", "score"),
        ("score 1", "embed 0", "fisher"),
        ("fisher", "select", "evaluate"),
        ("evaluate", "select", "embed"),
    ]:
        assert done is None or run_phase(done) == 0
        before = snapshot(roots.results, roots.preprocessed)
        capsys.readouterr()
        assert run_phase(early) == 2
        assert f"-phase {early.split()[0]}: phase {missing} of round 1" in capsys.readouterr().err
        left = {path: mark for path, mark in snapshot(roots.results, roots.preprocessed).items() if "lock" not in path}
        assert left == {path: mark for path, mark in before.items() if "lock" not in path}


@pytest.mark.parametrize("arguments, said", [
    (("-phase", "train"), "-round K"),
    (("-phase", "train", "-round", "0"), "one call without -phase"),
    (("-phase", "embed", "-round", "1"), "a round of random has prepare, train, evaluate, select"),
    (("-phase", "train", "-round", "1", "-num_parts", "2"), "train is one call"),
])  # fmt: skip
def test_what_is_no_phase(roots, capsys, arguments, said):
    assert run_round() == 0
    capsys.readouterr()
    assert run_round(*arguments) == 2
    assert said in capsys.readouterr().err


def test_what_another_host_has_just_finished_is_waited_for(roots, monkeypatch):
    """Over a network, a marker that is there may not be seen yet."""
    assert run_round() == 0
    campaign = campaign_folder(roots)
    assert run_phase("prepare", strategy="random") == 0
    monkeypatch.setattr(network_delay, "PATIENCE_SECONDS", 30.0)
    monkeypatch.setattr(network_delay, "LOOK_AGAIN_SECONDS", 0.05)
    for phase_, marker in [
        ("train", campaign / "round_001" / "stages" / "images.json"),
        ("evaluate", campaign / "campaign.json"),
    ]:
        hidden = campaign.parent / "hidden"
        marker.rename(hidden)
        threading.Timer(0.5, hidden.rename, [marker]).start()
        assert run_phase(phase_, strategy="random") == 0


def test_a_phase_that_is_done_reads_markers_only(roots, monkeypatch, capsys):
    assert run_round() == 0
    assert run_phase("prepare", strategy="random") == 0
    monkeypatch.setattr(phase, "reading_alone", None)
    monkeypatch.setattr(phase, "campaign_lock", None)
    capsys.readouterr()
    assert run_phase("prepare", strategy="random", number=1) == 0
    assert "done already" in capsys.readouterr().out


def test_a_phase_removes_what_a_killed_one_left_half_written(roots):
    assert run_round() == 0
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    left = campaign_folder(roots) / f".{socket.gethostname()}-{child.pid}.tmp.results.csv"
    left.write_text("")
    assert run_phase("prepare", strategy="random") == 0
    assert not left.exists()


def test_who_shares_a_campaign_keeps_whole_rounds_away_but_not_each_other(roots, capsys):
    assert run_round("-s", "entropy") == 0
    for name in ("prepare", "train"):
        assert run_phase(name, strategy="entropy") == 0
    lock = campaign_folder(roots) / "lock"
    holder = hold_share(lock)
    capsys.readouterr()
    for arguments in ((), ("-round", "1", "-phase", "evaluate")):
        assert run_round("-s", "entropy", *arguments) == 2
        assert f"process {holder.pid} on host" in capsys.readouterr().err
    assert run_phase("score 0", strategy="entropy") == 0
    assert run_phase("score 1", strategy="entropy") == 0
    assert run_phase("select", strategy="entropy") == 2
    holder.communicate("\n")
    assert run_phase("evaluate", strategy="entropy") == 0
    assert run_phase("select", strategy="entropy") == 0
    assert (campaign_folder(roots) / "round_001" / "stages" / "annotate.json").is_file()


def test_phases_behind_the_end_of_the_pool_have_nothing_to_do(roots, capsys):
    all_of_it = ("-b", "1000")
    for number in ("0", "1", "2"):
        assert run_round("-round", number, *all_of_it) == 0
    capsys.readouterr()
    for number in (3, 7):
        assert run_phase("prepare", number, *all_of_it, strategy="random") == 0
        assert run_phase("select", number, *all_of_it, strategy="random") == 0
    assert capsys.readouterr().out.count("used up") == 4
    assert not (campaign_folder(roots) / "round_003").exists()


@pytest.mark.parametrize("name, expected", [
    ("random", "prepare train evaluate select"),
    ("random_foreground", "prepare train evaluate score select"),
    ("entropy+fair", "prepare train evaluate score merge* select"),
    ("core_set", "prepare train evaluate score merge embed select*"),
    ("usimf", "prepare train evaluate score fisher* embed select*"),
    ("usimf+fair", "prepare train evaluate score fisher* embed select*"),
    ("usimc", "prepare train evaluate score merge embed select*"),
])  # fmt: skip
def test_phases_follow_from_the_recipe(name, expected):
    phases = phases_of(catalog.get(name))
    on_gpu = {"train", "evaluate", "score", "embed"}
    told = [p.name + ("*" if p.on_device and p.name not in on_gpu else "") for p in phases]
    assert " ".join(told) == expected
    names = [p.name for p in phases]
    assert [p.name for p in phases if p.sharded] == [n for n in names if n in {"score", "embed"}]
    assert set(names) <= set(PHASES)
    for index, one in enumerate(phases):
        assert set(one.after) <= set(names[:index])
    assert {p.name for p in phases if p.alone} == {"prepare", "train", "select"}
