"""One process per campaign; a dead one holds nobody up."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from nnunet_al.campaign.lock import campaign_lock, shared_lock
from nnunet_al.errors import CampaignLockedError
from nnunet_al.files import read_json, write_json

HOLDER = """
import os, sys, time
from pathlib import Path
from nnunet_al.campaign.lock import campaign_lock, shared_lock
with campaign_lock(Path(sys.argv[1])):
    if sys.argv[2] == "with a child":
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
    print("held", flush=True)
    time.sleep(30)
"""


def hold(path: Path, how: str = "alone") -> subprocess.Popen:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), how], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert holder.stdout.readline() == "held\n"
    return holder


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "campaign" / "lock"


def test_the_sentence_names_the_holder(path):
    holder = hold(path)
    try:
        with pytest.raises(CampaignLockedError) as caught, campaign_lock(path):
            pass
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.communicate()
    sentence = str(caught.value)
    assert str(path.parent) in sentence
    assert f"process {holder.pid} on host {socket.gethostname()} since" in sentence
    since = datetime.fromisoformat(sentence.partition(" since ")[2].partition(";")[0])
    assert datetime.now().astimezone() - since < timedelta(minutes=5)


@pytest.mark.parametrize("how", ["alone", "with a child"])
def test_a_lock_ends_with_its_process_even_if_a_child_lives_on(path, how):
    holder = hold(path, how)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    try:
        with campaign_lock(path):
            assert read_json(path.with_name("lock.json"))["process"] == os.getpid()
    finally:
        if how == "with a child":
            os.killpg(holder.pid, signal.SIGKILL)
        holder.stdout.close()


def test_who_held_it_is_forgotten_afterwards_whatever_happened(path):
    with pytest.raises(ZeroDivisionError), campaign_lock(path):
        1 / 0  # noqa: B018
    assert not path.with_name("lock.json").exists()
    with campaign_lock(path):
        pass


def test_a_holder_that_has_not_said_who_it_is(path):
    holder = hold(path)
    try:
        path.with_name("lock.json").unlink()
        with pytest.raises(CampaignLockedError, match="just begun"), campaign_lock(path):
            pass
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.communicate()


def test_many_parts_share_one_file(path):
    for part in range(5):
        with shared_lock(path, f"score_{part}_of_5"):
            assert path.with_name(f"lock_part_score_{part}_of_5.json").is_file()
    assert sorted(file.name for file in path.parent.iterdir()) == ["lock", "lock_parts"]


def test_who_holds_a_campaign_alone_forgets_those_who_shared_it_and_died(path):
    """On another host nobody can see that they have died."""
    dead = path.with_name("lock_part_score_7_of_9.json")
    write_json(dead, {"host": "elsewhere", "process": 1, "since": "2026-01-01T00:00:00+00:00"})
    with shared_lock(path, "evaluate"):
        assert dead.exists()
    with campaign_lock(path):
        assert not dead.exists()
