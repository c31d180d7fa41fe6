"""A call with nothing to do decides that from the markers: neither torch nor nnU-Net is loaded for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tiny_rounds import TINY_ROUND, campaign_folder, run_round

from nnunet_al.files import temporary_sibling

from .annotation_project import collect
from .test_collect import hand_in

_CALL = """
import sys
from importlib import import_module
code = import_module("nnunet_al.cli." + sys.argv[1]).main(sys.argv[2:])
loaded = sorted({"torch", "nnunetv2", "blosc2", "scipy", "skimage"}.intersection(sys.modules))
print(code, loaded, file=sys.stderr)
"""
_ROUND = ("round", *TINY_ROUND, "-device", "cuda")


def call(*arguments: str) -> str:
    """Run a command in a process of its own; its exit code and the heavy packages that it loaded."""
    done = subprocess.run([sys.executable, "-c", _CALL, *arguments], capture_output=True, text=True, check=True)
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_no_call_loads_what_it_does_not_need(roots):
    assert [run_round(), run_round()] == [0, 0]
    root = campaign_folder(roots)
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    unfinished = temporary_sibling(root / "batch.json")
    unfinished = unfinished.with_name(unfinished.name.replace(f"-{os.getpid()}.", f"-{int(dead.stdout)}."))
    unfinished.touch()
    (root / "lock.json").write_text(json.dumps({"host": "a", "process": int(dead.stdout), "since": "then"}))
    (roots.raw / "Dataset601_Taken").mkdir()
    for arguments in (
        (*_ROUND, "-round", "1"),
        (*_ROUND, "-round", "1", "-phase", "train"),
        ("pool", "-d", "501"),
        ("pool", "-d", "501", "--add"),
        ("status", "-d", "501"),
    ):
        assert call(*arguments) == "0 []", arguments
        assert not unfinished.exists()
        assert not (root / "lock.json").exists()
    assert call("export", "-d", "501", "-o", "601") == "2 []"


@pytest.mark.slow
def test_collecting_what_was_taken_loads_nothing(project):
    assert run_round("--annotate") == 3
    for case in project.asked(0):
        hand_in(project, case, project.batch(0) / "returned")
    assert collect("--reviewed") == 0
    assert call("collect", "-d", "501", "--reviewed") == "0 []"
