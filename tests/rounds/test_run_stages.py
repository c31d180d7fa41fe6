"""A stage is complete or absent: its marker comes last."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_al.campaign.stages import is_done
from nnunet_al.errors import DatasetError, StorageError
from nnunet_al.files import read_json
from nnunet_al.rounds.run_stages import Stage, run_stages
from nnunet_al.stopping import SIGNAL, handling_signals


class Notes(list):
    """What was done, in order, by stages that each write a file."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def stage(self, name: str, error: Exception | None = None) -> Stage:
        def work(context: Notes) -> None:
            assert context is self
            assert not is_done(self.folder / "stages", name), "marked before it was done"
            self.append(name)
            if error is not None:
                raise error

        return Stage(name, f"doing {name}", work)


@pytest.fixture
def notes(tmp_path) -> Notes:
    return Notes(tmp_path)


def run(notes: Notes, *stages: Stage) -> None:
    run_stages(stages, notes, notes.folder / "stages")


def test_stages_run_in_order_and_once(notes):
    stages = [notes.stage(name) for name in "abc"]
    run(notes, *stages)
    run(notes, *stages)
    assert notes == ["a", "b", "c"]
    assert all(is_done(notes.folder / "stages", name) for name in "abc")
    assert read_json(notes.folder / "stages" / "a.json")["seconds"] >= 0


@pytest.mark.parametrize("error", [RuntimeError("a crash of ours"), DatasetError("A sentence."), KeyboardInterrupt()])
def test_a_stage_that_fails_is_not_done_and_runs_again(notes, error):
    with pytest.raises(type(error)):
        run(notes, notes.stage("a"), notes.stage("b", error), notes.stage("c"))
    assert notes == ["a", "b"]
    assert not is_done(notes.folder / "stages", "b")
    run(notes, *[notes.stage(name) for name in "abc"])
    assert notes == ["a", "b", "b", "c"]


def test_who_is_asked_to_stop_stops_between_stages_and_never_behind_the_last(notes):
    def asked(context: Notes) -> None:
        os.kill(os.getpid(), SIGNAL)

    asks = Stage("asks", "", asked)
    with handling_signals(), pytest.raises(KeyboardInterrupt):
        run(notes, notes.stage("a"), asks, notes.stage("b"))
    assert notes == ["a"]
    assert is_done(notes.folder / "stages", "asks")
    run(notes, notes.stage("a"), asks, notes.stage("b"))
    assert notes == ["a", "b"]
    (notes.folder / "stages" / "asks.json").unlink()
    with handling_signals():
        run(notes, notes.stage("a"), notes.stage("b"), asks)


def test_half_a_marker_is_none(notes):
    (notes.folder / "stages").mkdir()
    (notes.folder / "stages" / ".host-1.tmp.a.json").write_text("{")
    run(notes, notes.stage("a"))
    assert notes == ["a"]


def test_what_a_killed_process_left_is_removed_before_a_stage_runs_again(notes):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    leftover = notes.folder / "deep" / f".{os.uname().nodename}-{dead.pid}.tmp.scores.npz"
    leftover.parent.mkdir()
    leftover.write_text("half")
    run(notes, notes.stage("a"))
    assert not leftover.exists()


def test_a_full_disk_is_one_sentence_that_names_stage_and_folder(notes):
    with pytest.raises(StorageError) as caught:
        run(notes, notes.stage("train", OSError(errno.ENOSPC, "No space left on device")))
    assert "'train'" in str(caught.value)
    assert str(notes.folder) in str(caught.value)


def test_a_crash_of_ours_is_no_message(notes):
    with pytest.raises(OSError, match="elsewhere"):
        run(notes, notes.stage("a", OSError(errno.ENOENT, "elsewhere")))
