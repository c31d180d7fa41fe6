"""Campaigns that start at the same moment: what they share is done once, by whichever comes first."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from tiny_rounds import TINY_USIMF, run_round

from nnunet_al.campaign.lock import campaign_lock
from nnunet_al.files import read_arrays, read_json
from nnunet_al.nnunet import image_store, verification

from .kill_lab import forked, wait

STRATEGIES = ("usimf", "entropy")


@pytest.fixture
def noted(monkeypatch, tmp_path) -> Path:
    """A file that gets a line for each case that is read to be checked, and for each image that is preprocessed."""
    note = tmp_path / "note.txt"
    note.touch()
    verify, preprocess = verification.verify_case, image_store._preprocess

    def write(what: str) -> None:
        with note.open("a") as file:
            file.write(f"{what}\n")

    def verify_and_note(case, *rest):
        write(f"checked {case}")
        return verify(case, *rest)

    def preprocess_and_note(files, stored, *rest):
        write(f"preprocessed {stored.case}-{stored.key}")
        return preprocess(files, stored, *rest)

    monkeypatch.setattr(verification, "verify_case", verify_and_note)
    monkeypatch.setattr(image_store, "_preprocess", preprocess_and_note)
    return note


def campaign(strategy: str) -> int:
    options = TINY_USIMF if strategy == "usimf" else ("-s", strategy)
    return run_round(*options) or run_round("-s", strategy)


def outcome(results: Path) -> dict:
    found = {}
    for folder in sorted(results.glob("*/al/*/fold_0")):
        for name in ("round_000", "round_001"):
            found[f"{folder.parent.name} {name}"] = read_json(folder / name / "batch.json")["regions"]
        scores = read_arrays(folder / "round_001" / "scores.npz")
        found[folder.parent.name] = {key: array.tolist() for key, array in scores.items()}
    return found


def test_two_campaigns_started_at_the_same_moment_by_two_processes(make_roots, noted, tmp_path):
    roots = make_roots()
    logs = {strategy: tmp_path / f"{strategy}.txt" for strategy in STRATEGIES}
    children = [forked(lambda strategy=strategy: campaign(strategy), logs[strategy]) for strategy in STRATEGIES]
    assert [wait(child) for child in children] == [0, 0], "\n".join(log.read_text() for log in logs.values())
    together = Counter(noted.read_text().split("\n")[:-1])

    noted.write_text("")
    alone = make_roots()
    assert [campaign(strategy) for strategy in STRATEGIES] == [0, 0]
    assert set(together.values()) == {1}, "nothing was done twice"
    assert together == Counter(noted.read_text().split("\n")[:-1])
    assert len(outcome(roots.results)) == 6
    assert outcome(roots.results) == outcome(alone.results)


def test_who_was_killed_while_checking_holds_nobody_up(make_roots, noted, monkeypatch, tmp_path):
    import signal

    roots = make_roots()
    verify = verification.verify_case

    def dies(case, *rest):
        if case.endswith("05"):
            os.kill(os.getpid(), signal.SIGKILL)
        return verify(case, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(verification, "verify_case", dies)
        assert wait(forked(run_round, tmp_path / "log.txt")) == -signal.SIGKILL
    assert run_round() == 0
    assert (roots.preprocessed / "Dataset501_Phantom" / "al_images" / "facts.json").is_file()


def test_a_refusal_leaves_no_lock_behind(roots):
    broken = next((roots.raw / "Dataset501_Phantom" / "imagesTr").iterdir())
    broken.write_bytes(broken.read_bytes()[:100])
    assert run_round() == 2
    assert list(roots.preprocessed.iterdir()) == []
    assert list(roots.results.iterdir()) == []


def test_a_refusal_removes_what_another_one_was_about_to_remove(roots):
    """Of two that are refused at one moment, the second finds the first one's lock and folders."""
    lock = roots.preprocessed / "Dataset501_Phantom" / "al_images" / "lock_facts"
    lock.parent.mkdir(parents=True)
    lock.touch()
    broken = next((roots.raw / "Dataset501_Phantom" / "imagesTr").iterdir())
    broken.write_bytes(broken.read_bytes()[:100])
    assert run_round() == 2
    assert list(roots.preprocessed.iterdir()) == []


def test_who_comes_second_leaves_the_campaign_that_is_just_starting_alone(roots, tmp_path):
    """The first one has nothing but its lock yet, and would go on in a folder that is gone."""
    lock = roots.results / "Dataset501_Phantom" / "al" / "2d__random__seed0" / "fold_0" / "lock"
    began, end = os.pipe(), os.pipe()

    def starting() -> int:
        with campaign_lock(lock):
            os.write(began[1], b".")
            os.read(end[0], 1)
        return 0

    first = forked(starting, tmp_path / "log.txt")
    os.read(began[0], 1)
    assert run_round() == 2
    assert sorted(file.name for file in lock.parent.iterdir()) == ["lock", "lock.json"]
    os.write(end[1], b".")
    assert wait(first) == 0
    assert run_round() == 0
