"""Locks on files: alone, shared, of single bytes, and of files that their holder removes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nnunet_al.errors import StorageError
from nnunet_al.file_locks import file_lock, remove_lock

HOLDER = """
import sys
from pathlib import Path
from nnunet_al.file_locks import file_lock
kinds = {"alone": {}, "shared": {"shared": True}}
with file_lock(Path(sys.argv[1]), **(kinds[sys.argv[2]] if sys.argv[2] in kinds else {"byte": int(sys.argv[2])})):
    print("held", flush=True)
    sys.stdin.readline()
    if sys.argv[3:] == ["remove"]:
        from nnunet_al.file_locks import remove_lock
        remove_lock(Path(sys.argv[1]), [])
"""


class Holder:
    """Another process with a lock, which it gives back when it is told to."""

    def __init__(self, path: Path, how: str, *then: str) -> None:
        command = [sys.executable, "-c", HOLDER, str(path), how, *then]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "held\n"

    def let_go(self) -> None:
        self.process.communicate("\n")

    def die(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a folder" / "lock"


@pytest.fixture
def hold(path):
    holders = []

    def start(*how: str) -> Holder:
        holders.append(Holder(path, *how))
        return holders[-1]

    yield start
    for holder in holders:
        if holder.process.poll() is None:
            holder.die()


def is_free(path: Path, **how) -> bool:
    try:
        with file_lock(path, **how):
            return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("theirs, mine, free", [
    ("alone", {}, False),
    ("alone", {"shared": True}, False),
    ("shared", {}, False),
    ("shared", {"shared": True}, True),
    ("7", {"byte": 7}, False),
    ("7", {"byte": 8}, True),
    ("1099511627775", {"byte": 2**40 - 1}, False),
    ("7", {}, False),
])  # fmt: skip
def test_who_may_hold_it_together(path, hold, theirs, mine, free):
    holder = hold(theirs)
    assert is_free(path, **mine) == free
    holder.die()
    assert is_free(path, **mine)


def test_bytes_cost_no_room(path):
    with file_lock(path, byte=2**40 - 1):
        assert path.stat().st_size == 0


def test_waiting_is_said_once_and_ends_with_the_holder(path, hold):
    holder, said = hold("alone"), []

    def waiting() -> None:
        said.append("waiting")
        threading.Timer(0.3, holder.let_go).start()

    with file_lock(path, timeout_seconds=30, waiting=waiting):
        assert said == ["waiting"]
        assert holder.process.wait(10) == 0


def test_a_lock_that_its_holder_removed_is_taken_on_a_new_file(path, hold):
    """Who waited for the removed file would hold something that nobody else ever looks at."""
    holder = hold("alone", "remove")
    with file_lock(path, timeout_seconds=30, waiting=lambda: threading.Timer(0.3, holder.let_go).start()):
        assert path.exists()
        other = subprocess.run([sys.executable, "-c", HOLDER, str(path), "alone"], capture_output=True, text=True)
        assert "TimeoutError" in other.stderr


def test_only_folders_that_nobody_uses_are_removed(tmp_path):
    path = tmp_path / "used" / "empty" / "lock"
    with file_lock(path):
        (tmp_path / "used" / "file").write_text("")
        remove_lock(path, list(path.parents)[:2])
    assert [entry.name for entry in (tmp_path / "used").iterdir()] == ["file"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused_with_a_sentence(path, monkeypatch, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(StorageError, match="no file locks") as caught, file_lock(path):
        pass
    assert str(path) in str(caught.value)
