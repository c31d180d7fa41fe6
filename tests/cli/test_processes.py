"""Whole rounds as a user runs them, each call a process of its own: one strategy of each kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rounds import TINY_ROUND, campaign_folder

from nnunet_al.files import read_json

COMMAND = Path(sys.executable).with_name("nnUNetv2_al_round")
SMALL = ("-set", "embedding_size=50", "fisher_samples=4")
KINDS = [
    pytest.param(("margin+mc_dropout+stochastic_batches", "-passes", "2"), id="uncertainty"),
    pytest.param(("usimf", "-passes", "2", *SMALL), id="embedding"),
    pytest.param(("learning_loss",), id="trainer"),
]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", KINDS)
def test_two_full_rounds_behind_the_initial_one(roots, strategy):
    for number in range(3):
        command = [COMMAND, *TINY_ROUND, "-s", *strategy, "-round", str(number)]
        call = subprocess.run(command, capture_output=True, text=True, check=False)
        assert call.returncode == 0, call.stdout + call.stderr
    campaign = campaign_folder(roots)
    batches = [read_json(campaign / f"round_{number:03d}" / "batch.json")["regions"] for number in range(3)]
    assert [len(batch) for batch in batches] == [6, 5, 5]
    asked = [(entry["case"], str(entry["box"])) for batch in batches for entry in batch]
    assert len(set(asked)) == len(asked)
    assert all(entry["score"] is not None for batch in batches[1:] for entry in batch)
    assert (campaign / "results.csv").read_text().count("\n") == 3
