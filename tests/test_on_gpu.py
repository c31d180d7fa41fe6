"""The checks for a GPU check themselves on the CPU, where each device is compared with itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOME = ("scoring_half", "gradients", "flqmi", "training_learning_loss")


def call(command: list[object]) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
def test_some_checks_are_ok_on_the_cpu_and_one_of_a_gpu_is_skipped(tmp_path):
    done = call([TESTS / "on_gpu.sh", "-device", "cpu", "-o", tmp_path, *SOME, "training_compiled"])
    assert done.returncode == 0, done.stdout + done.stderr
    lines = dict(reversed(line.split()[:2]) for line in done.stdout.splitlines())
    assert {name: lines[name] for name in SOME} == dict.fromkeys(SOME, "ok")
    assert lines["training_compiled"] == "skipped"
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


def test_a_check_that_fails_or_crashes_has_a_line_and_sets_the_exit_status(tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import on_gpu

def wrong(bench):
    raise on_gpu.FailedError("they differ")

def crashes(bench):
    return {{}}["no key"]

on_gpu.CHECKS = {{"wrong": wrong, "fine": lambda bench: "equal", "crashes": crashes}}
sys.exit(on_gpu.main(["-device", "cpu", "-o", {str(tmp_path)!r}]))
"""
    done = call([sys.executable, "-c", script])
    assert done.returncode == 1, done.stdout + done.stderr
    statuses = [line.split()[0] for line in done.stdout.splitlines()[1:4]]
    assert statuses == ["FAILED", "ok", "FAILED"]
    assert "they differ" in done.stdout
    assert "KeyError" in (tmp_path / "log.txt").read_text()


def test_without_a_gpu_the_checks_say_so(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = call([sys.executable, TESTS / "on_gpu.py", "-o", tmp_path])
    assert done.returncode == 1
    assert "no GPU" in done.stdout
