"""Law 1: kill the process anywhere, repeat the command, and the batch is that of a round that nobody disturbed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LAB = Path(__file__).with_name("kill_lab.py")
ROUND_1 = {
    *("labels", "fingerprint", "plan", "preprocess", "images", "train", "evaluate", "score_part_0_of_1", "score"),
    *("fisher", "embed_part_0_of_1", "embed", "select", "annotate"),
}


@pytest.fixture(scope="module")
def killed_rounds(phantom_variants, tmp_path_factory) -> dict[str, Any]:
    work = tmp_path_factory.mktemp("kills")
    shutil.copytree(phantom_variants(), work / "phantoms" / "nnUNet_raw")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    which = ["all"] if os.environ.get("NNUNET_AL_KILL_EVERYWHERE") else []
    process = subprocess.run(
        [sys.executable, str(LAB), str(work), str(work / "report.json"), *which],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    return json.loads((work / "report.json").read_text())


@pytest.mark.slow
def test_two_undisturbed_rounds_are_equal(killed_rounds):
    assert killed_rounds["unlike"] == []


@pytest.mark.slow
def test_kills_come_in_every_stage(killed_rounds):
    trials = killed_rounds["trials"]
    assert len({trial["moment"] for trial in trials if trial["round"] == 1 and trial["moment"] is not None}) >= 40
    assert {trial["stage"] for trial in trials if trial["round"] == 1} >= ROUND_1
    assert {trial["stage"] for trial in trials if trial["round"] == 0} >= {"select", "annotate"}
    assert sum(trial["torn"] for trial in trials) >= len(ROUND_1)


@pytest.mark.slow
def test_a_killed_round_ends_as_if_nobody_had_killed_it(killed_rounds):
    bad = [trial for trial in killed_rounds["trials"] if trial["problems"]]
    told = "\n".join(f"round {t['round']}, {t['stage']}, {t['what']} ({t['moment']}): {t['problems']}" for t in bad)
    assert not bad, f"{len(bad)} of {len(killed_rounds['trials'])} kills:\n{told}"
