"""A signal while nnU-Net tries its readers, where it catches everything, ends the command as at any other moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from tiny_rounds import TINY_ROUND, outcome, run_round, snapshot

PROBING = "determine_reader_writer_from_file_ending"


@pytest.fixture
def signal_at(monkeypatch):
    """Send this process a signal at the nth moment at which nnU-Net tries a reader; how often it tried."""
    read, seen = SimpleITKIO.read_images, []

    def arm(number: int, moment: int) -> list[int]:
        seen.clear()

        def read_images(self, files):
            if sys._getframe(1).f_code.co_name == PROBING:
                seen.append(len(seen))
                if len(seen) == moment + 1:
                    os.kill(os.getpid(), number)
            return read(self, files)

        monkeypatch.setattr(SimpleITKIO, "read_images", read_images)
        return seen

    return arm


def test_an_interruption_while_a_reader_is_tried_changes_nothing(make_roots, signal_at, capsys):
    found, interrupted = [], []
    for interrupt in (True, False):
        roots = make_roots()
        for _ in range(2):
            for moment in range(20):
                tried = signal_at((signal.SIGTERM, signal.SIGINT)[moment % 2], moment if interrupt else -2)
                code = run_round()
                error = capsys.readouterr().err
                if code == 0:
                    break
                assert code == 130
                assert error == "Interrupted. The same command continues where this one stopped.\n"
                interrupted.append(len(tried))
        found.append(outcome(roots.results))
    assert len(interrupted) >= 3
    assert found[0].keys() == found[1].keys()
    assert [name for name in found[0] if found[0][name] != found[1][name]] == []


SLOW_READER = """
import os, sys, time
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunet_al.cli.round import main
def read_images(self, files):
    os.write(1, b"reading\\n")  # whatever Python's own output is turned to
    time.sleep(60)
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
determine = ExperimentPlanner.determine_reader_writer
def slowly(self):
    SimpleITKIO.read_images = read_images
    return determine(self)
ExperimentPlanner.determine_reader_writer = slowly
sys.exit(main(sys.argv[1:]))
"""


def test_a_process_that_is_ended_while_it_plans(roots):
    before = snapshot(roots.results)
    command = [sys.executable, "-c", textwrap.dedent(SLOW_READER), *TINY_ROUND]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "reading\n":
                break
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert error.endswith("Interrupted. The same command continues where this one stopped.\n")
    assert snapshot(roots.results) == before
